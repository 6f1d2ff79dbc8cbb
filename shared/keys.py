"""A hospital's key pair: how Flower knows the hospital. Made at the hospital; only the public half ever leaves it.

The keys are NIST P-384 in OpenSSH's format, which Flower 1.39 reads (reference/flower.md §4). Flower has no way to ask for a
passphrase, so the private key lies unencrypted in a file that its owner alone can read.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from pydantic import TypeAdapter, ValidationError

from shared.errors import InputError
from shared.files import read_bytes, read_private, write_new, write_private
from shared.plan import SiteName

CURVE = ec.SECP384R1
LONGEST = 200  # bytes of a file name, so that endings fit into the 255 of every file system


@dataclass(frozen=True)
class PublicKey:
    """A hospital's public key in OpenSSH's one-line form, without a comment: equal keys are equal lines."""

    openssh: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key as OpenSSH encodes it, as sixteen groups of four to read out on the telephone."""
        return fingerprint(base64.b64decode(self.openssh.split()[1]))

    @property
    def openssh_fingerprint(self) -> str:
        """The same SHA-256 as `ssh-keygen -lf` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.openssh.split()[1])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def pem(self) -> bytes:
        """The key as Flower's Grid and LinkState hold it."""
        return load_ssh_public_key(self.openssh.encode()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def line(self, name: str) -> bytes:
        """Return the file's text, with the site's name as its comment; only people read the comment."""
        return f"{self.openssh} {name}\n".encode()


@dataclass(frozen=True)
class SiteKey:
    """A hospital's private key; it never leaves the hospital."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The half that the coordinator gets."""
        return public_key_of(self.private.public_key())

    @property
    def openssh(self) -> bytes:
        """The private key's file, unencrypted."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def make_site_key() -> SiteKey:
    """Return a new key pair from the operating system's randomness."""
    return SiteKey(ec.generate_private_key(CURVE()))


def write_site_key(folder: Path, name: str, key: SiteKey) -> tuple[Path, Path]:
    """Write ``NAME.key`` (0600) and ``NAME.pub`` and return both paths; raise `InputError` when either is there already."""
    stem = key_file_name(name)
    private, public = folder / f"{stem}.key", folder / f"{stem}.pub"
    if public.exists():
        raise InputError(f"{public}: this is there already and was not overwritten; name another folder with --out.")
    write_private(private, key.openssh)
    write_new(public, key.public.line(name))
    return private, public


def read_site_key(path: Path) -> SiteKey:
    """Read a hospital's private key.

    Raises `InputError`: no such file, others can read it, it has a passphrase, or it is not a P-384 key in OpenSSH's format.
    """
    content = read_private(path)
    mend = "make one with promptward keys site"
    try:
        key = load_ssh_private_key(content, password=None)
    except TypeError:
        raise InputError(f"{path}: this key has a passphrase, which Flower cannot ask for; {mend}.") from None
    except (ValueError, UnsupportedAlgorithm):
        what = "a public key" if content.startswith(b"ecdsa-") else "no private key in OpenSSH's format"
        raise InputError(f"{path}: this is {what}; {mend}, and name the file that ends in .key.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, CURVE):
        raise InputError(f"{path}: this key is not of the curve P-384; {mend}.")
    return SiteKey(key)


def read_public_key(path: Path) -> PublicKey:
    """Read a hospital's public key.

    Raises `InputError`: no such file, a private key, or not a P-384 key in OpenSSH's format.
    """
    content = read_bytes(path)
    if b"PRIVATE KEY" in content:
        raise InputError(
            f"{path}: this is a private key, which must never leave its hospital; "
            "have the hospital make a new pair and send the file that ends in .pub."
        )
    try:
        key = load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{path}: this is no public key in OpenSSH's format; ask for the file that ends in .pub.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVE):
        raise InputError(f"{path}: this key is not of the curve P-384; have it made with promptward keys site.")
    return public_key_of(key)


def public_key_of(key: ec.EllipticCurvePublicKey) -> PublicKey:
    """Return the public half of an elliptic-curve key as OpenSSH writes it."""
    return PublicKey(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def key_file_name(name: str) -> str:
    """Return the file name, without ending, that a site's name has everywhere; `site_of_file_name` undoes it.

    Letters and digits of any script, ``-`` and ``.`` stay; a space becomes ``_``; everything else becomes ``%`` and the
    hexadecimal UTF-8 bytes. Raises `InputError` for a name that no card could have.

    >>> key_file_name("VA Long Beach"), key_file_name("Köln_2"), key_file_name("St. Mary's")
    ('VA_Long_Beach', 'Köln%5F2', 'St._Mary%27s')
    """
    try:
        TypeAdapter(SiteName).validate_python(name)
    except ValidationError:
        raise InputError(f"site name '{name}': give 1 to 64 characters without / and \\, the first of them not a dot.") from None
    plain = "".join(_in_a_file_name(character) for character in name)
    safe = f"%2D{plain[1:]}" if plain.startswith("-") else plain  # a leading dash would be read as an option
    if len(safe.encode()) > LONGEST:
        raise InputError(f"site name '{name}': this is too long for a file name; shorten it in the card.")
    return safe


def site_of_file_name(stem: str) -> str:
    """Return the site's name that `key_file_name` turned into `stem`.

    >>> site_of_file_name("VA_Long_Beach"), site_of_file_name("Köln%5F2")
    ('VA Long Beach', 'Köln_2')
    """
    return unquote(stem.replace("_", " "))


def fingerprint(content: bytes) -> str:
    """Return the SHA-256 as sixteen groups of four hexadecimal digits.

    >>> fingerprint(b"")[:19]
    'e3b0 c442 98fc 1c14'
    """
    digits = hashlib.sha256(content).hexdigest()
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def _in_a_file_name(character: str) -> str:
    if character == " ":
        return "_"
    if character.isalnum() or character in "-.":
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())
