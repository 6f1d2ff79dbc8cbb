import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.credentials import fill_folder, ready, renew
from server.roster import admit, admitted
from shared.errors import InputError
from shared.keys import make_site_key

NOW = datetime.now(UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fill_folder(tmp_path, ("hub.example.org", "10.0.0.5"), 30, NOW)
    return tmp_path


def test_a_coordinators_folder(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600, "sites": 0o700}
    assert ready(folder, NOW).covers("hub.example.org")
    (folder / "ca.key").unlink()  # a careful coordinator keeps it elsewhere
    assert ready(folder, NOW).covers("10.0.0.5")


def test_renewal_keeps_hosts_authority_and_key(folder: Path) -> None:
    kept = {name: (folder / name).read_bytes() for name in ("ca.crt", "ca.key", "server.key")}
    later = NOW + timedelta(days=40)
    with pytest.raises(InputError, match=r"server.crt: this ended on"):
        ready(folder, later)
    assert renew(folder, (), 20, later).names == ("hub.example.org", "10.0.0.5", "localhost", "127.0.0.1", "::1")
    assert ready(folder, later).days_left(later) == 19
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert renew(folder, ("new.example.org",), 20, later).names == ("new.example.org", "localhost", "127.0.0.1", "::1")
    assert not (folder / "server.new").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "ca.crt").unlink(), "this is no coordinator's folder"),
        (lambda folder: (folder / "ca.key").chmod(0o644), r"ca.key: .*chmod 600"),
        (lambda folder: (folder / "ca.key").write_bytes((folder / "server.key").read_bytes()), r"ca.key: this key does not belong"),
        (lambda folder: (folder / "server.key").unlink(), r"server.key: there is no such file"),
    ],
)
def test_a_renewal_that_cannot_be_changes_nothing(folder: Path, spoil: object, said: str) -> None:
    before = (folder / "server.crt").read_bytes()
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(InputError, match=said):
        renew(folder, (), 20, NOW)
    assert (folder / "server.crt").read_bytes() == before


def test_no_renewal_by_an_authority_that_has_ended(folder: Path) -> None:
    with pytest.raises(InputError, match=r"ca.crt: this ended on .*makes a new federation"):
        renew(folder, (), 20, NOW + timedelta(days=3651))


def test_a_server_certificate_of_another_federation_is_found(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    fill_folder(other, ("x.org",), 30, NOW)
    (folder / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
    with pytest.raises(InputError, match=r"server.crt: this was not issued by"):
        ready(folder, NOW)


def test_hospitals_are_admitted_once_and_by_their_own_key(folder: Path) -> None:
    north, south = make_site_key().public, make_site_key().public
    assert admitted(folder) == {}
    assert admit(folder, "VA Long Beach", north)
    assert not admit(folder, "VA Long Beach", north)
    assert admit(folder, "Köln", south)
    assert admitted(folder) == {"Köln": south, "VA Long Beach": north}
    with pytest.raises(InputError, match="this key is admitted for 'Köln' already"):
        admit(folder, "North", south)
    with pytest.raises(
        InputError, match=r"VA_Long_Beach.pub: 'VA Long Beach' is admitted with another key .*remove this file first"
    ):
        admit(folder, "VA Long Beach", make_site_key().public)
    assert admitted(folder) == {"Köln": south, "VA Long Beach": north}


def test_one_key_under_two_names_is_found(folder: Path) -> None:
    admit(folder, "North", make_site_key().public)
    (folder / "sites" / "South.pub").write_bytes((folder / "sites" / "North.pub").read_bytes())
    with pytest.raises(InputError, match="'North' and 'South' have the same key"):
        admitted(folder)


def test_a_folder_without_a_roster_is_no_coordinators(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sites: there is no such folder"):
        admit(tmp_path, "North", make_site_key().public)
