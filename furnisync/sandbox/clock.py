"""The sandbox's own time: real time plus an offset that tests move."""

from __future__ import annotations

import time
from email.utils import formatdate

__all__ = ["Clock"]


class Clock:
    """The sandbox's time in unix seconds.

    It runs on the monotonic clock, so that a correction of the machine's clock does not affect
    a rate limit.
    """

    def __init__(self, start_at: float | None = None) -> None:
        self._base = (time.time() if start_at is None else start_at) - time.monotonic()
        self._dated = (0, "")

    def now(self) -> float:
        """Return the current time of the sandbox."""
        return self._base + time.monotonic()

    def http_date(self) -> str:
        """Return the current time in the form of a `Date` header."""
        second = int(self.now())
        if self._dated[0] != second:  # the CDN calls this thousands of times a second
            self._dated = (second, formatdate(second, usegmt=True))
        return self._dated[1]

    def move(self, seconds: float) -> float:
        """Move the clock forward and return the new time; time never goes back."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._base += seconds
        return self.now()
