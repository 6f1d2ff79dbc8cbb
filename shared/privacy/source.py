"""Where secret randomness comes from: a ChaCha20 key stream, keyed by the operating system or, in simulations, by a seed.

One code path serves both; only the key differs. No global generator is read or set, so `torch.manual_seed`, a config or
Flower cannot reach the noise.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

Words = NDArray[np.uint64]


class Stream(Protocol):
    """A stream of uniform 64-bit words for one purpose."""

    def words(self, count: int) -> Words:
        """Return `count` fresh uniform 64-bit words."""
        ...


class KeyStream:
    """ChaCha20 key stream under one key; every call continues where the last one ended."""

    def __init__(self, key: bytes) -> None:
        """Start the stream of a 32-byte key."""
        self._encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def words(self, count: int) -> Words:
        """Return the next `count` words."""
        return np.frombuffer(self._encryptor.update(bytes(8 * count)), dtype="<u8").astype(np.uint64)


class SecureStream(KeyStream):
    """A stream under a key from the operating system; exact noise is drawn by OpenDP's own generator in its place."""


@dataclass(frozen=True)
class SecureSource:
    """The default: every stream has a new key from the operating system's generator."""

    name: str = "cryptographic"

    def stream(self, *purpose: str | int) -> Stream:
        """Return a stream that nobody can reproduce; `purpose` is for the reader."""
        return SecureStream(secrets.token_bytes(32))


@dataclass(frozen=True)
class SimulationSource:
    """Reproducible streams for simulations: no protection at all for real patients.

    The key is SHA-256 of seed and purpose, so that streams of two sites, rounds or purposes are independent.

    >>> a = SimulationSource(7).stream("noise", "Cleveland", 1).words(2)
    >>> bool((a == SimulationSource(7).stream("noise", "Cleveland", 1).words(2)).all())
    True
    """

    seed: int
    name: str = "seeded for simulation"

    def stream(self, *purpose: str | int) -> Stream:
        """Return the stream of this purpose, for example ``("noise", site, round, step)``."""
        text = "\x1f".join(["promptward simulation", str(self.seed), *map(str, purpose)])
        return KeyStream(hashlib.sha256(text.encode()).digest())


class Source(Protocol):
    """Where a hospital's streams come from: the system's in production, with `SimulationSource` for simulations only."""

    def stream(self, *purpose: str | int) -> Stream:
        """Return the stream of this purpose; no two purposes share one."""
        ...


def uniform(stream: Stream, count: int) -> NDArray[np.float64]:
    """Return `count` uniforms in the open interval (0, 1) with 53 random bits each."""
    return ((stream.words(count) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
