"""Simulates a month of the steady state, scaled down; `bench.month` says what it stands for."""

import asyncio
import contextlib
import math
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from furnisync.collect.sync import DataRun, DataSync
from furnisync.config import ApiKey, Environment, HomeFiles, Settings
from furnisync.errors import ConfigError
from furnisync.images.sync import ImageRun, ImageSync
from furnisync.quota.ledger import read_state
from furnisync.sandbox.process import SandboxProcess

DAY_S = 86_400.0
HOUR_S = 3600.0
REAL_LISTINGS = 600_000
LISTINGS_A_SHOP = 6
POLL_S = 0.03
SPENT_POLLS = 20
"""So long must a day stay spent: a call may look whether some are free again."""
PURPOSES = {
    "listings/active": "discovery",
    "listings/batch": "batch",
    "shops/{shop_id}/listings/active": "shops",
    "shops/{shop_id}": "shops",
    "shops/{shop_id}/reviews": "reviews",
}


class Churn(msgspec.Struct, frozen=True):
    """Parts of all listings that change in a day."""

    create: float = 0.002
    end: float = 0.002
    renew: float = 0.008
    reprice: float = 0.004
    reviews_a_shop: float = 0.05

    @property
    def total(self) -> float:
        """All changes of listings in a day."""
        return self.create + self.end + self.renew + self.reprice


class Month(msgspec.Struct, frozen=True):
    """What is simulated; `qpd` as the real key would have, scaled with the listings."""

    listings: int = 20_000
    qpd: int = 5_000
    days: float = 30.0
    step_h: float = 3.0
    furniture_only: bool = True
    churn: Churn = Churn()
    settings: Settings = Settings()

    @property
    def scaled_qpd(self) -> int:
        """Calls a day in the sandbox."""
        return round(self.qpd * self.listings / REAL_LISTINGS)

    @property
    def shops(self) -> int:
        """As many to a listing as Etsy's furniture has."""
        return max(12, self.listings // LISTINGS_A_SHOP)


class Figures(msgspec.Struct, frozen=True):
    """What the month came to; ages in days, of active listings, once a day in its second half.

    Attributes:
        missing: active listings that we do not hold.
        found_in_a_day: of the new listings that lived a day, the share known by then; None while
            the first pass lasts.
        first_pass_days: until all was read once; None where it was not.
        calls: by purpose.
        states_wrong: ended listings that image sync and data sync hold for active, and the reverse.
    """

    median_age: float
    p95_age: float
    missing: int
    active: int
    found_in_a_day: float | None
    new: int
    first_pass_days: float | None
    calls: dict[str, int]
    days: float
    states_wrong: int


class MonthClock:
    """The sandbox's time, from its beginning on."""

    def __init__(self, offset_s: float) -> None:
        self._moved_s = offset_s

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time() + self._moved_s

    def monotonic(self) -> float:
        """Moves along."""
        return time.monotonic() + self._moved_s

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._moved_s += seconds


def simulate(month: Month, folder: Path, told: Callable[[str], None] = lambda _: None) -> Figures:
    """Run the month."""
    churn = month.churn
    with SandboxProcess(
        shops=month.shops,
        listings=month.listings,
        reviews_mean=4,
        qps=1000,
        qpd=month.scaled_qpd,
        images_mean=1,
        image_bytes=1500,
        pictures=2,
    ) as sandbox:
        mix = {"create": churn.create, "end": churn.end, "renew": churn.renew}
        sandbox.churn(
            per_hour=churn.total / 24,
            reviews_per_hour=churn.reviews_a_shop * month.shops / 24,
            mix={**mix, "reprice": churn.reprice, "edit": 0.0},
        )
        return _Simulation(month, folder, sandbox).run(told)


class _Simulation:
    """A home under way through the month."""

    def __init__(self, month: Month, folder: Path, sandbox: SandboxProcess) -> None:
        self._month = month
        self._sandbox = sandbox
        self._clock = MonthClock(sandbox.clock_offset_s)
        self._environment = Environment(
            home=folder,
            api_url=sandbox.api_url,
            cdn_hosts=frozenset([sandbox.cdn_host]),
            key=ApiKey(sandbox.key, sandbox.secret),
        )
        self._files = HomeFiles(folder)
        self._settings = msgspec.structs.replace(
            month.settings,
            images=msgspec.structs.replace(
                month.settings.images, which="primary", min_free_mb=0.0, metadata_every_s=1e9
            ),
        )
        self._began = self._clock.now()
        self._owed = 0.0
        self._ages: list[float] = []

    def run(self, told: Callable[[str], None]) -> Figures:
        steps = round(self._month.days * 24 / self._month.step_h)
        sample_every = max(1, round(24 / self._month.step_h))
        for number in range(steps):
            asyncio.run(self._step())
            if number >= steps / 2 and number % sample_every == 0:
                self._ages += self._measure_ages(self._active())
            self._sandbox.move_clock(self._month.step_h * HOUR_S)
            self._clock.move(self._month.step_h * HOUR_S)
            if (number + 1) % max(1, steps // 10) == 0:
                told(self._line())
        return self._measure()

    async def _step(self) -> None:
        """What both programs would do in a step's time, one after the other."""
        before, budget = self._asked(), self._budget()
        share = self._settings.quota.images_share_percent / 100
        images = ImageSync(
            self._environment, self._settings, ImageRun("fast"), self._clock, lambda _: None
        )
        await self._run_until(images, before + max(1, round(budget * share)))
        run = DataRun("fast", furniture_only=self._month.furniture_only)
        data = DataSync(self._environment, self._settings, run, self._clock, lambda _: None)
        with contextlib.suppress(ConfigError):  # no shop is known yet
            await self._run_until(data, before + budget)

    async def _run_until(self, program: ImageSync | DataSync, calls: int) -> None:
        """Run a program until it is done, the day is spent or so many calls were made in all."""
        if self._asked() >= calls:
            return
        work = asyncio.create_task(program.run())
        spent = 0
        while not work.done():
            await asyncio.wait([work], timeout=POLL_S)
            spent = spent + 1 if self._is_spent() else 0
            if spent > SPENT_POLLS or self._asked() >= calls:
                program.stop()
                break
        await work

    def _budget(self) -> int:
        """Calls that slow mode makes in a step's time: `pacing.program_rate`, over and over."""
        limit, quota = self._month.scaled_qpd, self._settings.quota
        kept = math.ceil(limit * quota.reserve_percent / 100)
        left = float(limit - int(self._sandbox.asked()["used_today"]) - kept)
        calls, part_s = 0.0, 60.0
        for _ in range(round(self._month.step_h * HOUR_S / part_s)):
            rate = max((left - calls) / quota.spread_s, limit / DAY_S)
            rate = min(rate, quota.slow_per_second * limit / self._month.qpd)
            calls = min(max(left, 0.0), calls + rate * part_s)
        self._owed += calls
        whole = int(self._owed)
        self._owed -= whole
        return whole

    def _asked(self) -> int:
        return int(self._sandbox.asked()["total"])

    def _is_spent(self) -> bool:
        state = read_state(self._files.quota, None, self._clock)
        return state is not None and state.waiting_until is not None

    # -- figures -----------------------------------------------------------------------------

    def _line(self) -> str:
        figures = self._measure()
        return (
            f"day {figures.days:.0f}: age {figures.median_age:.1f} / {figures.p95_age:.1f} days,"
            f" {figures.missing} of {figures.active} missing, new within a day"
            f" {figures.found_in_a_day}, calls {figures.calls}"
        )

    def _measure(self) -> Figures:
        now = self._clock.now()
        furniture = self._furniture()
        active = [one["listing_id"] for one in furniture if one["findable"]]
        seen = self._seen()
        ages = sorted(self._ages or self._measure_ages(active)) or [math.nan]
        first = self._first_pass()
        found, new = self._found_in_a_day(furniture, now, first)
        return Figures(
            median_age=statistics.median(ages),
            p95_age=ages[min(len(ages) - 1, round(0.95 * len(ages)))],
            missing=sum(one not in seen for one in active),
            active=len(active),
            found_in_a_day=found / new if new else None,
            new=new,
            first_pass_days=None if first is None else (first - self._began) / DAY_S,
            calls=self._calls(),
            days=(now - self._began) / DAY_S,
            states_wrong=self._count_wrong_states(),
        )

    def _furniture(self) -> list[dict[str, Any]]:
        truth = self._sandbox.truth_listings()
        return [one for one in truth if one["is_furniture"] and one["searchable"]]

    def _active(self) -> list[int]:
        return [one["listing_id"] for one in self._furniture() if one["findable"]]

    def _measure_ages(self, active: Sequence[int]) -> list[float]:
        now, seen = self._clock.now(), self._seen()
        return [(now - seen[one]) / DAY_S for one in active if one in seen]

    def _rows(self, path: Path, sql: str) -> list[tuple[Any, ...]]:
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def _seen(self) -> dict[int, float]:
        """When batch last told of a listing, whoever asked."""
        seen: dict[int, float] = dict(
            self._rows(
                self._files.catalog,
                "SELECT listing_id, batched_at FROM listings WHERE batched_at IS NOT NULL",
            )
        )
        for listing_id, at in self._rows(
            self._files.history,
            "SELECT listing_id, max(snapshot_timestamp) FROM listings_dynamic GROUP BY listing_id",
        ):
            seen[listing_id] = max(at, seen.get(listing_id, 0.0))
        return seen

    def _first_pass(self) -> float | None:
        rows = self._rows(
            self._files.catalog, "SELECT min(finished_at) FROM passes WHERE complete = 1"
        )
        return rows[0][0] if rows else None

    def _found_in_a_day(
        self, furniture: Sequence[dict[str, Any]], now: float, first: float | None
    ) -> tuple[int, int]:
        if first is None:
            return 0, 0
        known = dict(self._rows(self._files.catalog, "SELECT listing_id, first_seen FROM listings"))
        new = [
            one
            for one in furniture
            if first < one["born_at"] < now - DAY_S
            and (one["ended_at"] is None or one["ended_at"] > one["born_at"] + DAY_S)
        ]
        late = now + 1
        found = sum(known.get(one["listing_id"], late) <= one["born_at"] + DAY_S for one in new)
        return found, len(new)

    def _calls(self) -> dict[str, int]:
        calls: Counter[str] = Counter()
        for name, statuses in self._sandbox.asked()["calls"].items():
            calls[PURPOSES.get(name, "probe")] += sum(statuses.values())
        return dict(sorted(calls.items()))

    def _count_wrong_states(self) -> int:
        """Listings whose last state in one database says live and in the other ended."""
        catalog = dict(self._rows(self._files.catalog, "SELECT listing_id, state FROM listings"))
        history = self._rows(
            self._files.history,
            "SELECT listing_id, state, max(snapshot_timestamp) FROM listings_dynamic"
            " GROUP BY listing_id",
        )
        return sum(
            (state == "active") != (catalog[listing_id] == "active")
            for listing_id, state, _ in history
            if listing_id in catalog
        )
