"""A process of the multi-process tests: makes calls until it is told to stop.

    ledger_process.py PATH PROGRAM LIMIT CALLERS

Prints the instant of each grant, as the ledger's own transaction read it from the system-wide
monotonic clock, and stops when its standard input ends.
"""

import asyncio
import sys
import threading
from pathlib import Path

from furnisync.clock import SystemClock
from furnisync.config import QuotaSettings
from furnisync.quota.ledger import Ledger, QuotaHeaders


class NotingClock(SystemClock):
    """Remembers the last instant that it told."""

    last = 0.0

    def monotonic(self) -> float:
        self.last = super().monotonic()
        return self.last


async def run_caller(ledger: Ledger, clock: NotingClock, limit: float, ends: threading.Event):
    while not ends.is_set():
        await ledger.acquire("batch")
        print(repr(clock.last), flush=True)
        await asyncio.sleep(0.02)
        told = QuotaHeaders(200, limit, limit / 10, 100_000, 90_000)
        ledger.settle("batch", told)


async def main() -> None:
    path, program, limit, callers = sys.argv[1:]
    clock, ends = NotingClock(), threading.Event()
    settings = QuotaSettings(fast_per_second=1e6)
    ledger = Ledger(Path(path), "key", program, "fast", settings, clock)
    threading.Thread(target=lambda: (sys.stdin.read(), ends.set()), daemon=True).start()
    await asyncio.gather(
        *(run_caller(ledger, clock, float(limit), ends) for _ in range(int(callers)))
    )
    ledger.close()


if __name__ == "__main__":
    asyncio.run(main())
