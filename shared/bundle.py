"""The Flower app bundle, built bit for bit the same from this installation by coordinator and hospitals alike."""

import hashlib
from pathlib import Path

FILE = Path(__file__).with_name("bundle.toml")


def bundle() -> bytes:
    """Return the bundle: a zip of one project file and its manifest, without any code."""
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415 (most of a second to import)

    return build_fab_from_files({"pyproject.toml": FILE.read_bytes()})[0]


def bundle_hash() -> str:
    """Return the SHA-256 that a hospital lets through, as hex."""
    return hashlib.sha256(bundle()).hexdigest()
