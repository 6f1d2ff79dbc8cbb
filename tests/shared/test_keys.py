import argparse
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InputError
from shared.keys import SiteKey, key_file_name, make_site_key, read_public_key, read_site_key, site_of_file_name, write_site_key

OPENSSH = shutil.which("ssh-keygen") or ""
needs_openssh = pytest.mark.skipif(not OPENSSH, reason="OpenSSH is not installed")
NAMES = ["VA Long Beach", "Universitätsklinikum Köln", "St. Mary's", "-x", "100 % sicher_", "東京 第一", 'a"b$c;d', " ", "a" * 64]


@pytest.fixture
def key() -> SiteKey:
    return make_site_key()


def written(folder: Path, content: bytes) -> Path:
    path = folder / "given"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_key_pair_comes_back_from_its_files(tmp_path: Path, key: SiteKey, name: str) -> None:
    private, public = write_site_key(tmp_path, name, key)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert read_site_key(private).public == key.public == read_public_key(public)
    assert site_of_file_name(public.name.removesuffix(".pub")) == name


@given(st.text(min_size=1, max_size=20))
def test_file_names_are_safe_and_can_be_turned_back(name: str) -> None:
    try:
        stem = key_file_name(name)
    except InputError:
        assert name[0] == "." or any(c in "/\\" or not c.isprintable() or ord(c) < 32 for c in name)
        return
    assert site_of_file_name(stem) == name
    assert all(c.isalnum() or c in "-._%" for c in stem)
    assert not stem.startswith(("-", "."))


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", "a" * 65, "\udcff", "\\"])
def test_names_that_no_card_could_have_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="give 1 to 64 characters"):
        key_file_name(name)


def test_a_name_that_fits_no_file_system_is_refused() -> None:
    with pytest.raises(InputError, match="too long for a file name"):
        key_file_name("\u0301" * 64)


def test_flower_accepts_the_keys(tmp_path: Path, key: SiteKey) -> None:
    from flwr.cli.supernode.register import try_load_public_key
    from flwr.supercore.primitives.asymmetric import bytes_to_public_key, public_key_to_bytes, uses_nist_ec_curve
    from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

    private, public = write_site_key(tmp_path, "VA Long Beach", key)
    loaded = _try_setup_client_authentication(
        argparse.Namespace(auth_supernode_private_key=str(private), auth_supernode_public_key=None)
    )
    assert loaded is not None
    assert try_load_public_key(public) == public_key_to_bytes(loaded[1]) == key.public.pem
    assert uses_nist_ec_curve(bytes_to_public_key(key.public.pem))


@needs_openssh
def test_openssh_reads_the_keys_and_agrees_on_the_fingerprint(tmp_path: Path, key: SiteKey) -> None:
    private, public = write_site_key(tmp_path, "Köln", key)
    said = subprocess.run([OPENSSH, "-lf", public], capture_output=True, text=True, check=True).stdout
    assert said.split()[:2] == ["384", key.public.openssh_fingerprint]
    derived = subprocess.run([OPENSSH, "-yf", private], capture_output=True, text=True, check=True).stdout
    assert derived.split()[1] == key.public.openssh.split()[1]


def test_a_fingerprint_is_sixteen_groups_of_four(key: SiteKey) -> None:
    groups = key.public.fingerprint.split(" ")
    assert [len(group) for group in groups] == [4] * 16
    assert key.public.fingerprint != make_site_key().public.fingerprint
    assert "private" not in repr(key)


@pytest.mark.parametrize("ending", ["key", "pub"])
def test_neither_half_is_overwritten(tmp_path: Path, key: SiteKey, ending: str) -> None:
    left = tmp_path / f"North.{ending}"
    left.write_text("kept")
    with pytest.raises(InputError, match="was not overwritten"):
        write_site_key(tmp_path, "North", key)
    assert list(tmp_path.iterdir()) == [left]
    assert left.read_text() == "kept"


def private_bytes(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, how: PrivateFormat = PrivateFormat.OpenSSH) -> bytes:
    return key.private_bytes(Encoding.PEM, how, NoEncryption())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "this is no private key in OpenSSH's format"),
        (b"ecdsa-sha2-nistp384 AAAA", "this is a public key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "this is no private key"),
        (private_bytes(ec.generate_private_key(ec.SECP384R1()), PrivateFormat.PKCS8), "this is no private key in OpenSSH's format"),
        (private_bytes(ec.generate_private_key(ec.SECP256R1())), "not of the curve P-384"),
        (private_bytes(ed25519.Ed25519PrivateKey.generate()), "not of the curve P-384"),
    ],
)
def test_other_private_keys_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=rf"given: .*{said}.*promptward keys site"):
        read_site_key(written(tmp_path, content))


@needs_openssh
def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    subprocess.run([OPENSSH, "-q", "-t", "ecdsa", "-b", "384", "-N", "secret", "-f", path], check=True)
    with pytest.raises(InputError, match="locked: this key has a passphrase"):
        read_site_key(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no public key in OpenSSH's format"),
        (b"\xff\xfe", "no public key in OpenSSH's format"),
        (b"ecdsa-sha2-nistp384 AAAA", "no public key in OpenSSH's format"),
        (make_site_key().openssh, "a private key, which must never leave its hospital"),
        (
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
            "not of the curve P-384",
        ),
    ],
)
def test_other_public_keys_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_public_key(written(tmp_path, content))


def test_a_key_that_is_not_there_or_open_to_others(tmp_path: Path, key: SiteKey) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_site_key(tmp_path / "gone.key")
    private, _ = write_site_key(tmp_path, "North", key)
    private.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        read_site_key(private)
