"""The hospitals that a coordinator admitted: one public key a file in its sites/ folder, named by the site's name."""

from pathlib import Path

from shared.errors import InputError
from shared.files import write_new
from shared.keys import PublicKey, key_file_name, read_public_key, site_of_file_name

SITES = "sites"


def admitted(folder: Path) -> dict[str, PublicKey]:
    """Return the admitted public keys by site name, in the order of names.

    Args:
        folder: the coordinator's folder.

    Raises:
        InputError: no such folder, a file that is no public key, or one key under two names.
    """
    sites = folder / SITES
    if not sites.is_dir():
        raise InputError(f"{sites}: there is no such folder; make a coordinator's with promptward keys coordinator.")
    keys = {site_of_file_name(path.name.removesuffix(".pub")): read_public_key(path) for path in sorted(sites.glob("*.pub"))}
    owner: dict[PublicKey, str] = {}
    for name, key in keys.items():
        if owner.setdefault(key, name) != name:
            raise InputError(f"{sites}: '{owner[key]}' and '{name}' have the same key; remove the file of one of them.")
    return keys


def admit(folder: Path, name: str, key: PublicKey) -> bool:
    """Admit a site by its key; return False when exactly this was done before.

    Raises `InputError` when the key is another site's, or the site has another key.
    """
    known = admitted(folder)
    path = folder / SITES / f"{key_file_name(name)}.pub"
    if name in known and known[name] != key:
        raise InputError(
            f"{path}: '{name}' is admitted with another key ({known[name].fingerprint}); "
            "remove this file first if the hospital says by telephone that it has a new one."
        )
    other = next((site for site, its in known.items() if its == key and site != name), None)
    if other is not None:
        raise InputError(f"this key is admitted for '{other}' already; every hospital makes a key of its own.")
    if name in known:
        return False
    write_new(path, key.line(name))
    return True
