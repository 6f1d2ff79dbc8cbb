"""This machine's clock, as far as the machine itself can tell: Flower takes a signed call for five seconds before its time
and for five minutes after it, and a certificate and a ledger have times too.
"""

import ctypes
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from shared.findings import Finding

NOT_SYNCHRONISED = 5  # adjtimex's TIME_ERROR
STATE_SIZE = 1024  # bytes; struct timex is smaller on every platform
SLACK = 2.0  # seconds; file systems round times
MEND = "set the clock, best by NTP (chrony or systemd-timesyncd)"


def clock_findings(now: datetime, past: Mapping[str, float]) -> Iterator[Finding]:
    """Compare this machine's clock with times that are surely past.

    Args:
        now: what the clock says, UTC.
        past: what was done -> when, in seconds since 1970 by this machine's clock or another's.
    """
    ahead = {what: when for what, when in past.items() if when > now.timestamp() + SLACK}
    for what, when in ahead.items():
        said = (
            f"this machine says {now:%Y-%m-%d %H:%M:%S} UTC, and {what} says {datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M:%S}"
        )
        yield Finding("clock", "wrong", said, MEND)
    if not ahead:
        told = ", ".join(past) or "nothing: there is no file with a time yet"
        yield Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC, later than {told}")
    if kernel_keeps_time() is False:
        yield Finding("clock", "warning", "no time service keeps this machine's clock right, its kernel says", MEND)


def kernel_keeps_time() -> bool | None:
    """Say whether the kernel knows its clock to be synchronised; None where it does not tell."""
    if sys.platform != "linux":
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(STATE_SIZE))  # all zero: it is only asked, nothing is set
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != NOT_SYNCHRONISED
