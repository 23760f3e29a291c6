"""How late the event loop is, so that downloads leave it the processor that API calls need.

Calls are scarce and paced to the hundredth of a second, images are neither. Both programs' threads
share one interpreter, and a fast image server could keep it busy alone.
"""

import asyncio
import time

__all__ = ["LoopLag"]

LOOK_EVERY_S = 0.02
FREE_S = 0.004
"""So much lateness is usual."""
REST_TIMES = 5
REST_MOST_S = 0.1
NEWEST_WEIGHT = 0.3


class LoopLag:
    """Measured in the loop by `watch`, read by any thread."""

    def __init__(self) -> None:
        self._lag_s = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                began = time.monotonic()
                await asyncio.sleep(LOOK_EVERY_S)
                late_s = time.monotonic() - began - LOOK_EVERY_S
                self._lag_s += NEWEST_WEIGHT * (late_s - self._lag_s)
        finally:
            self._lag_s = 0.0

    @property
    def rest_s(self) -> float:
        """How long another thread should rest now (seconds), so that the loop catches up."""
        return min(REST_MOST_S, REST_TIMES * max(0.0, self._lag_s - FREE_S))
