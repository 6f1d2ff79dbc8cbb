"""How far the coordinator's clock is from this machine's, found out by which signed times it takes.

Flower 1.39 takes a call whose signed time is less than `BEHIND` seconds after its own clock and less than `TAKEN` before it
(SYSTEM_TIME_TOLERANCE and TIMESTAMP_TOLERANCE); it sends no time of its own.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

BEHIND, TAKEN = 5.0, 305.0
HOURS = 14  # a machine that was set to local time is off by as much at most, in half hours
CLOSE = 0.2  # seconds


def skew(takes: Callable[[datetime], bool], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Return the coordinator's clock minus this one in seconds, to about `CLOSE`; None when no signed time is taken.

    Args:
        takes: says whether the coordinator takes a call with this signed time.
        now: this machine's clock.
    """

    def taken(offset: float) -> bool:
        return takes(now() + timedelta(seconds=offset))

    near = [0.0, *(sign * step for step in range(300, 3900, 300) for sign in (1, -1))]
    far = [float(sign * half * 1800) for half in range(3, 2 * HOURS + 1) for sign in (1, -1)]
    low = next((offset for offset in (*near, *far) if taken(offset)), None)
    if low is None:
        return None
    high = low + BEHIND + TAKEN + 1  # wider than what is taken
    while high - low > CLOSE:
        middle = (low + high) / 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return (low + high) / 2 - BEHIND
