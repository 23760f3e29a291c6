"""(C) A pass: every price interval of the plan is read, and cut if it exceeds the reach.

plan file --> intervals --> ListReader --> complete | over the reach | failed
                  ^                              |
                  +---- cut at its prices -------+--- one price: `oversize`
"""

import asyncio
import itertools
import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from furnisync.catalog import frontier, listings, oversize, shops
from furnisync.catalog.frontier import SWEEP_SINCE, Bounds, Interval, PassRow
from furnisync.catalog.schema import set_meta
from furnisync.clock import Clock
from furnisync.crawl.list_reader import ListReader, Reading
from furnisync.crawl.oversize import make_shops_due, named, split_oversize, widen
from furnisync.crawl.plan_file import CrawlPlan, save_cuts, save_merged, without_covered
from furnisync.crawl.price_split import HIGHEST, cut, merge
from furnisync.errors import ApiUnavailable, ConfigError
from furnisync.etsy.taxonomy import Tree
from furnisync.sqlite.writer import Writer

log = logging.getLogger("furnisync.discover")

INTERVALS_AT_ONCE = 4
ROUNDS = 2
"""How often failed intervals are tried in one run."""
SAMPLE = 20_000
ENOUGH_KNOWN = 1_000
"""From this many known prices on, they are a better guide for cuts than the page just read."""


class PassReader:
    """Reads all intervals of the plan, or those that an earlier run left."""

    def __init__(
        self,
        reader: ListReader,
        writer: Writer,
        clock: Clock,
        tree: Tree,
        plan_path: Path,
        *,
        marks_shops: bool = True,
    ) -> None:
        """Make a reader; `marks_shops`: a complete pass counts as a sync of all shops."""
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._tree = tree
        self._plan_path = plan_path
        self._marks_shops = marks_shops

    async def run(self, plan: CrawlPlan) -> PassRow:
        """Read a pass to its end, or as far as Etsy answers.

        Returns:
            the pass; its `complete` is 1 only if every interval was read completely.
        """
        current = await self._writer.run(self._open_or_begin, await self._merge(plan))
        for left in reversed(range(ROUNDS)):
            await self._read_pending(current.pass_id)
            if await self._writer.run(self._finish, current.pass_id, plan):
                break
            if left:
                await self._writer.run(frontier.retry_failed, current.pass_id)
        found = await self._writer.run(frontier.last_pass)
        assert found is not None
        return found

    async def plan_ahead(self, plan: CrawlPlan) -> PassRow:
        """Begin or continue a pass, only until each interval is known to be in reach.

        This reads first pages, which the pass needs anyway.

        Raises:
            ApiUnavailable: some pages failed.
        """
        current = await self._writer.run(self._open_or_begin, await self._merge(plan))
        while True:
            pending = await self._writer.run(frontier.pending_intervals, current.pass_id)
            readings = await asyncio.gather(*map(self._reader.read_first, pending))
            over = [
                (interval, reading)
                for interval, reading in zip(pending, readings, strict=True)
                if reading.ended == "over_reach"
            ]
            if not over:
                if failed := [one.reason for one in readings if one.ended == "failed"]:
                    raise ApiUnavailable(f"{len(failed)} first pages: {failed[0]}")
                return current
            for interval, reading in over:
                await self._cut(interval, reading)

    async def _merge(self, plan: CrawlPlan) -> CrawlPlan:
        """Before a new pass: merge neighbors that have shrunk since the last one, and save that."""
        done, counts = await self._writer.run(_last_counts)
        if not done:
            return plan
        taxonomies = []
        for one in plan.taxonomies:
            breaks = merge(one.price_breaks, counts.get(one.id, {}))
            if dropped := set(one.price_breaks) - set(breaks):
                log.info("taxonomy %d: %d price intervals merged", one.id, len(dropped))
                await self._save(save_merged, one.id, sorted(dropped))
            taxonomies.append(msgspec.structs.replace(one, price_breaks=breaks))
        return CrawlPlan(tuple(taxonomies))

    def _open_or_begin(self, connection: sqlite3.Connection, plan: CrawlPlan) -> PassRow:
        """Continue the open pass if it has the same plan, else begin one."""
        current = frontier.open_pass(connection)
        if current is not None and current.plan == plan.fingerprint():
            frontier.retry_failed(connection, current.pass_id)
            return current
        bounds: list[Bounds] = []
        for one in without_covered(plan, self._tree).taxonomies:
            bounds += one.intervals()
        frontier.begin_pass(connection, plan.fingerprint(), bounds, int(self._clock.now()))
        current = frontier.open_pass(connection)
        assert current is not None
        return current

    async def _read_pending(self, pass_id: int) -> None:
        """Read until nothing is pending; cuts and oversize steps add pending intervals."""
        while pending := await self._writer.run(self._pending, pass_id):
            slots = asyncio.Semaphore(INTERVALS_AT_ONCE)

            async def read(interval: Interval, slots: asyncio.Semaphore = slots) -> None:
                async with slots:
                    await self._read_interval(interval)

            await asyncio.gather(*map(read, pending))

    def _pending(self, connection: sqlite3.Connection, pass_id: int) -> list[Interval]:
        pending = frontier.pending_intervals(connection, pass_id)
        if not pending and widen(connection, self._tree, pass_id):
            return frontier.pending_intervals(connection, pass_id)
        return pending

    async def _read_interval(self, interval: Interval) -> None:
        reading = await self._reader.read(interval)
        now = int(self._clock.now())
        if reading.ended == "complete":
            found = await self._writer.run(
                frontier.mark_interval_done, interval.interval_id, reading.count, now
            )
            if interval.part == "whole" and found < (reading.count or 0):
                log.warning("%s: %d of %d listings came", named(interval), found, reading.count)
        elif reading.ended == "over_reach":
            await self._cut(interval, reading)
        else:
            reason = reading.reason or "unknown"
            log.warning("%s could not be read completely: %s", named(interval), reason)
            await self._writer.run(frontier.mark_interval_failed, interval.interval_id, reason, now)

    async def _cut(self, interval: Interval, reading: Reading) -> None:
        """Replace an interval that exceeds the reach by pieces within it."""
        assert interval.taxonomy_id is not None
        count = reading.count or 0
        prices = await self._prices(interval, reading)
        cuts = cut(interval.low, interval.high, count, prices)
        if not cuts:
            await self._writer.run(split_oversize, self._tree, interval, count)
            return
        ends = [interval.low, *cuts, interval.high]
        bounds: list[Bounds] = [
            (interval.taxonomy_id, low, high) for low, high in itertools.pairwise(ends)
        ]
        reason = f"{count:,} listings, cut into {len(bounds)}"
        log.info("%s holds %s", named(interval), reason)
        await self._writer.run(frontier.split_interval, interval, bounds, "whole", reason)
        await self._save(save_cuts, interval.taxonomy_id, cuts)

    async def _save(
        self,
        save: Callable[[Path, int, Sequence[float]], None],
        taxonomy_id: int,
        breaks: Sequence[float],
    ) -> None:
        """Update the plan file; on failure (a full disk, a user's typo) the pass continues."""
        try:
            await asyncio.to_thread(save, self._plan_path, taxonomy_id, breaks)
        except (OSError, ConfigError) as error:
            log.warning("%s could not be updated: %s", self._plan_path, error)

    async def _prices(self, interval: Interval, reading: Reading) -> list[float]:
        assert interval.taxonomy_id is not None
        subtree = self._tree.subtree(interval.taxonomy_id)
        known = await self._writer.run(
            listings.known_prices, subtree, interval.low, interval.high, SAMPLE
        )
        return known if len(known) >= ENOUGH_KNOWN else [*known, *reading.prices]

    def _finish(self, connection: sqlite3.Connection, pass_id: int, plan: CrawlPlan) -> bool:
        """End the pass if it is complete, and apply what follows from a complete pass."""
        now = int(self._clock.now())
        if not frontier.finish_pass(connection, pass_id, now):
            return False
        current = frontier.last_complete_pass(connection)
        assert current is not None
        if frontier.count_intervals(connection, pass_id) > len(plan.taxonomies):
            set_meta(connection, SWEEP_SINCE, str(current.started_at))
        listings.want_unseen(connection, pass_id, now)
        if _covers_all(plan) and self._marks_shops:
            shops.mark_all_shops_synced(connection, current.started_at)
        make_shops_due(connection, self._tree, pass_id)
        return True


def _last_counts(
    connection: sqlite3.Connection,
) -> tuple[bool, dict[int, dict[tuple[float | None, float | None], int]]]:
    """(whether a new pass is about to begin, the counts of the last complete one)."""
    done = frontier.last_complete_pass(connection)
    if done is None or frontier.open_pass(connection) is not None:
        return False, {}
    return True, oversize.interval_counts(connection, done.pass_id, read_whole=True)


def _covers_all(plan: CrawlPlan) -> bool:
    """Whether the plan's price ranges are open, so that no listing of a shop is outside."""
    return all(
        one.price_breaks[0] <= 0 and one.price_breaks[-1] >= HIGHEST for one in plan.taxonomies
    )
