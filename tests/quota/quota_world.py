"""A world for the ledger's tests: a clock that tests move, an event loop on it, an Etsy on it."""

import asyncio
import selectors
from collections import deque
from pathlib import Path

from furnisync.config import QuotaSettings
from furnisync.quota.ledger import Ledger, QuotaHeaders, read_headers

START_WALL = 1_795_000_000.0


class FakeClock:
    """Time that passes only when it is told to."""

    def __init__(self, mono: float = 5000.0, wall: float = START_WALL) -> None:
        self.mono, self.wall = mono, wall

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def advance(self, seconds: float) -> None:
        self.mono += seconds
        self.wall += seconds


class _Selector(selectors.SelectSelector):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout=None):
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits for ever"
            self._clock.advance(max(timeout, 0))
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeps move the clock instead of waiting."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(_Selector(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock.mono


def run(clock: FakeClock, main):
    """Run a coroutine on virtual time."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)


class FakeEtsy:
    """Both limits, enforced as Etsy says: a sliding second, a sliding day made of buckets."""

    def __init__(self, clock: FakeClock, per_second=100, per_day=100_000, bucket_s=7200.0) -> None:
        self.clock, self.per_second, self.per_day = clock, per_second, per_day
        self.bucket_s = bucket_s
        self.foreign_per_second = 0
        self.tells_retry_after = True
        self._second: deque[float] = deque()
        self._buckets: dict[int, int] = {}
        self.calls: list[float] = []
        self.refused = 0

    def used_today(self) -> int:
        present = int(self.clock.mono // self.bucket_s)
        oldest = present - int(86_400 // self.bucket_s)
        self._buckets = {at: used for at, used in self._buckets.items() if at > oldest}
        return sum(self._buckets.values())

    def spend(self, calls: int) -> None:
        """Calls of somebody else."""
        bucket = int(self.clock.mono // self.bucket_s)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + calls

    def call(self) -> QuotaHeaders:
        now = self.clock.mono
        self.calls.append(now)
        while self._second and self._second[0] <= now - 1.0:
            self._second.popleft()
        per_second = self.per_second - self.foreign_per_second
        left = self.per_day - self.used_today()
        if left <= 0 or len(self._second) >= per_second:
            self.refused += 1
            headers = {"retry-after": "1"} if left > 0 else self._retry_after()
            return self._answer(429, headers, max(left, 0))
        self._second.append(now)
        self.spend(1)
        return self._answer(200, {}, left - 1)

    def _retry_after(self) -> dict[str, str]:
        if not self.tells_retry_after:
            return {}
        first = min(self._buckets)
        return {"retry-after": str(int((first + 1) * self.bucket_s + 86_400 - self.clock.mono))}

    def _answer(self, status: int, headers: dict[str, str], left: int) -> QuotaHeaders:
        headers |= {
            "X-Limit-Per-Second": str(self.per_second),
            "X-Remaining-This-Second": str(
                max(0, self.per_second - self.foreign_per_second - len(self._second))
            ),
            "X-Limit-Per-Day": str(self.per_day),
            "X-Remaining-Today": str(left),
        }
        return read_headers(status, headers, self.clock.now())


def open_ledger(folder: Path, clock, program="images", mode="fast", **settings) -> Ledger:
    key_id = settings.pop("key_id", "fingerprint")
    return Ledger(folder / "quota.db", key_id, program, mode, QuotaSettings(**settings), clock)


async def call(ledger: Ledger, etsy: FakeEtsy, latency_s: float = 0.1, purpose: str = "batch"):
    """One call from asking for it to its answer."""
    await ledger.acquire(purpose)
    await asyncio.sleep(latency_s / 2)
    answer = etsy.call()
    await asyncio.sleep(latency_s / 2)
    ledger.settle(purpose, answer)
    return answer


async def call_many(ledger: Ledger, etsy: FakeEtsy, calls: int, callers: int = 20, **how) -> None:
    """`calls` calls by some callers at a time."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            await call(ledger, etsy, **how)

    await asyncio.gather(*(work() for _ in range(callers)))


def most_in_a_second(instants: list[float]) -> int:
    """The fullest second, wherever it begins."""
    ordered, first, most = sorted(instants), 0, 0
    for last, at in enumerate(ordered):
        while ordered[first] < at - 1.0 + 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most
