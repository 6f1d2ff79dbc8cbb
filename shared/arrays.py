"""The name of an array: what ledger, transcript, prompt library and task card call it by."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sha256(array: NDArray[Any]) -> str:
    """Return the SHA-256 of shape and bytes of an array as hex."""
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()
