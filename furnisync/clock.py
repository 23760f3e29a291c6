"""The one source of time: passed in, so that tests and simulations can move it."""

import os
import time
from typing import Protocol

HOUR_S = 3600
DAY_S = 24 * HOUR_S
WEEK_S = 7 * DAY_S

OFFSET_VARIABLE = "FURNISYNC_CLOCK_OFFSET_S"

WRONG_S = 3600.0
"""A clock that differs this much from Etsy's is wrong, and so is a time this far in the future."""


class Clock(Protocol):
    """Wall time for what is recorded, monotonic time for pacing."""

    def now(self) -> float:
        """Unix time in seconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed instant of this boot, the same for all processes."""
        ...


class SystemClock:
    """The machine's clock.

    `FURNISYNC_CLOCK_OFFSET_S` (seconds, for tests and simulations) is added to wall time only, so
    that a process can be run "15 days later" without waiting.
    """

    def __init__(self) -> None:
        self._offset_s = float(os.environ.get(OFFSET_VARIABLE, "0"))

    def now(self) -> float:
        """Unix time in seconds, UTC."""
        return time.time() + self._offset_s

    def monotonic(self) -> float:
        """`time.monotonic`: system-wide on macOS and Linux, never set back."""
        return time.monotonic()
