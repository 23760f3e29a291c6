"""The sandbox's own time: real time plus an offset that tests move."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Tells the sandbox's time in unix seconds.

    It runs on the monotonic clock, so that a correction of the machine's clock cannot free or
    lock a rate limit.
    """

    def __init__(self, start_at: float | None = None) -> None:
        self._base = (time.time() if start_at is None else start_at) - time.monotonic()

    def now(self) -> float:
        """Return the present time of the sandbox."""
        return self._base + time.monotonic()

    def move(self, seconds: float) -> float:
        """Move the clock forward and return the new time; time never goes back."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._base += seconds
        return self.now()
