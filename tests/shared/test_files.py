import os
import stat
from pathlib import Path

import pytest

from shared.errors import InputError
from shared.files import new_folder, read_private, write_new, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", b"s")
        with new_folder(tmp_path / "folder") as inside:
            assert mode(inside) == 0o700
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600
    assert mode(tmp_path / "folder") == 0o700


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_new(tmp_path / "file", b"first")
    with pytest.raises(InputError, match="file: this is there already and was not overwritten"):
        write_private(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o610])
def test_a_private_file_that_others_can_open_is_refused(tmp_path: Path, bits: int) -> None:
    write_private(tmp_path / "secret", b"s")
    (tmp_path / "secret").chmod(bits)
    with pytest.raises(InputError, match=r"others on this machine can read this private key; run: chmod 600 '.*secret'"):
        read_private(tmp_path / "secret")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def failing() -> None:
        with new_folder(tmp_path / "folder") as inside:
            (inside / "half").write_text("written")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_a_folder_that_is_there_is_not_touched(tmp_path: Path, there: str) -> None:
    path = tmp_path / "there"
    {"folder": path.mkdir, "file": path.touch, "link": lambda: path.symlink_to("nowhere")}[there]()
    with pytest.raises(InputError, match="this is there already and nothing in it was changed"), new_folder(path):
        pass


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int, how: str) -> None:
        os.close(number)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(InputError, match=r"file: cannot be written \(No space left on device\)"):
        write_new(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []
