"""What our processes say while they run: one line a fact, on standard error."""

import logging
import sys


def speak(who: str = "") -> None:
    """Let the loggers under `promptward` write to standard error; other libraries keep their own habits."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {who + ': ' if who else ''}%(message)s", "%H:%M:%S"))
    ours = logging.getLogger("promptward")
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
