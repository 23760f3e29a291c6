"""`sync_data.py`: connects the collector with API and history and runs it once or continuously."""

import asyncio
import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing

import msgspec

from furnisync.clock import DAY_S, Clock
from furnisync.collect.collector import Collector
from furnisync.collect.context import Collected, Round
from furnisync.collect.shop_source import ShopSource
from furnisync.config import Environment, HomeFiles, Mode, Settings
from furnisync.errors import GaveUp, Terminal, Transient, UserError
from furnisync.etsy.access import open_client
from furnisync.etsy.client import EtsyClient
from furnisync.history import clock_repair, schedule
from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.history.fields.schema_drift import FieldWatch
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history, open_history_reader
from furnisync.lockfile import single_instance
from furnisync.outbox import Outbox
from furnisync.quota.clock_check import ClockCheck
from furnisync.sqlite.writer import Writer, read_in_thread
from furnisync.status.history import DataStatus, read_data_status_from

log = logging.getLogger("furnisync.collect")

Show = Callable[[DataStatus], None]
Upkeep = Callable[[Writer, ClockCheck], Awaitable[None]]

LOOK_AGAIN_S = 600.0
"""How often `--continuous` checks for shops that became due or that image sync found."""
ROUND_S = 3600.0
"""A round ends after this long. The next one includes newly found shops and failed ones."""
LOOK_EVERY_S = 1.0
STOP_CALLS_S = 4.0
SLOW_WORKERS = 4
REPAIR_AT_ONCE = 200
"""Number of shops that one transaction repairs."""


class DataRun(msgspec.Struct, frozen=True):
    """The options of the command line."""

    mode: Mode = "slow"
    continuous: bool = False
    top: int | None = None
    furniture_only: bool = False
    test: bool = False


class DataSync:
    """One run of data sync on a home."""

    def __init__(
        self,
        environment: Environment,
        settings: Settings,
        run: DataRun,
        clock: Clock,
        show: Show,
        upkeep: Upkeep | None = None,
    ) -> None:
        """Make a run; `show` gets its status about once a second, `upkeep` runs each round."""
        self._environment = environment
        self._settings = settings
        self._run = run
        self._clock = clock
        self._show = show
        self._upkeep = upkeep
        self._files = HomeFiles(environment.home, run.test)
        self._source = ShopSource(self._files)
        self._watch = FieldWatch()  # for all rounds: one alone may be too small
        self._stopping = asyncio.Event()
        self._outbox: Outbox

    def stop(self) -> None:
        """Finish the calls in flight and end within some seconds; call from the event loop."""
        log.info("stopping: finishing what is in flight")
        self._stopping.set()

    async def run(self) -> bool:
        """Run to the end.

        Returns:
            whether everything due was synced; False also if it was stopped.

        Raises:
            UserError: wrong input or environment.
        """
        data = self._settings.data
        selection = Selection.of(
            data.shop_fields,
            data.listing_fields,
            data.review_fields,
            read_buyers(self._files.buyer_key, data.buyer_user_id),
        )
        self._environment.require_key()
        shops = self._source.shops()
        with single_instance(self._files.lock("data"), "data sync"):
            async with AsyncExitStack() as stack:
                writer = Writer(open_history(self._files.history, selection), "history")
                stack.callback(writer.close)
                await writer.run(schedule.register_shops, shops)
                client = await stack.enter_async_context(
                    open_client(
                        "data",
                        self._run.mode,
                        self._environment,
                        self._files,
                        self._settings,
                        self._clock,
                    )
                )
                outbox = Outbox(self._files.outbox("data"), self._files.catalog)
                stack.callback(outbox.close)
                self._outbox = outbox
                client.upstreams.patience_s = self._settings.api.outage_patience_s
                client.upstreams.on_recovered = lambda since: writer.run(
                    schedule.restore_tries, since
                )
                if self._run.continuous:
                    client.clock.patience_s = client.upstreams.patience_s = math.inf
                return await self._run_until_stopped(client, writer, selection)

    async def _run_until_stopped(
        self, client: EtsyClient, writer: Writer, selection: Selection
    ) -> bool:
        work = asyncio.create_task(self._run_rounds(client, writer, selection))
        stop = asyncio.create_task(self._stopping.wait())
        report = asyncio.create_task(self._report())
        tasks = (work, stop, report)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if report.done():
                report.result()
            if work.done():
                return _result(work)
            await client.drain(STOP_CALLS_S)
            return False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self) -> None:
        """Show the progress until cancelled."""
        with closing(open_history_reader(self._files.history)) as reader:
            while True:
                status = await read_in_thread(
                    read_data_status_from, reader, self._files, self._settings.data, self._clock
                )
                self._show(status)
                await asyncio.sleep(LOOK_EVERY_S)

    async def _run_rounds(self, client: EtsyClient, writer: Writer, selection: Selection) -> bool:
        """Run rounds, without `continuous` until nothing is due; returns whether nothing failed."""
        await writer.run(schedule.forget_waits)
        while True:
            if self._upkeep is not None:
                await self._upkeep(writer, client.clock)
            await self._repair_times(client, writer)
            cut_short = await self._run_round(client, writer, selection)
            if self._run.continuous and not cut_short:
                await asyncio.sleep(LOOK_AGAIN_S)
            found_more = await self._register_shops(writer)
            if not (self._run.continuous or cut_short or found_more):
                return not await writer.run(schedule.is_failing, self._run.top)

    async def _repair_times(self, client: EtsyClient, writer: Writer) -> None:
        """Mark rows that a clock that was ahead wrote; if ours is behind now, wait for it."""
        wait_s = self._settings.data.sync_days * DAY_S

        def ahead(connection: sqlite3.Connection) -> list[int]:
            now_s = self._clock.now()
            return clock_repair.shops_ahead(connection, now_s, wait_s=wait_s)

        if not await writer.run(ahead):
            return
        try:
            now_s = await client.clock.trusted_now()
        except UserError:
            raise
        except (Transient, Terminal) as error:
            log.warning("times ahead of now are not repaired yet: %s", error)
            return
        shops = await writer.run(ahead)
        marked = 0
        for begin in range(0, len(shops), REPAIR_AT_ONCE):
            some = shops[begin : begin + REPAIR_AT_ONCE]
            marked += await writer.run(clock_repair.repair_shops, some, now_s)
        if shops:
            log.warning(
                "%d shops had times ahead of now, which a wrong clock wrote: they are due, and %d"
                " rows are marked and left out", len(shops), marked,
            )  # fmt: skip

    async def _register_shops(self, writer: Writer) -> bool:
        """Register the shops that image sync knows; returns whether one is due."""
        await writer.run(schedule.register_shops, await asyncio.to_thread(self._source.shops))
        settings = self._settings.data
        now_s = self._clock.now()
        return bool(
            await writer.run(schedule.due_shops, now_s, settings, limit=1, top=self._run.top)
        )

    async def _run_round(self, client: EtsyClient, writer: Writer, selection: Selection) -> bool:
        """Collect what is due, for a limited time; returns whether that time was too short."""
        lag = await writer.run(schedule.measure_lag, self._clock.now(), self._settings.data)
        log.info(
            "%d shops: %d never synced, %d due, %d in progress", lag.shops, lag.never_synced,
            lag.due, lag.under_way,
        )  # fmt: skip
        collector = self._collector(client, writer, selection)
        try:
            collected = await collector.run(self._workers(), self._clock.monotonic() + ROUND_S)
        except BaseExceptionGroup as errors:
            serious = errors.subgroup(UserError) or errors.subgroup(GaveUp) or errors
            raise serious.exceptions[0] from None
        _log_end(collected)
        return collector.cut_short

    def _collector(self, client: EtsyClient, writer: Writer, selection: Selection) -> Collector:
        this = Round(
            client,
            writer,
            self._clock,
            self._settings.data,
            selection,
            top=self._run.top,
            watch=self._watch,
            outbox=self._outbox,
            inbox=self._files.outbox("images"),
        )
        run = self._run
        return Collector(this, source=self._source, furniture_only=run.furniture_only)

    def _workers(self) -> int:
        return self._settings.api.connections if self._run.mode == "fast" else SLOW_WORKERS


def _result(work: asyncio.Task[bool]) -> bool:
    """Whether everything was synced; False if the run gave up on Etsy or the clock."""
    try:
        return work.result()
    except GaveUp as error:
        log.error("%s", error)  # noqa: TRY400 -- not the code
        return False


def _log_end(collected: Collected) -> None:
    done = (collected.shops, collected.listings, collected.reviews)
    log.info(
        "synced %s shops with %s listing rows, %s new reviews; %s shops are gone, %s calls failed",
        *(f"{number:,}" for number in (*done, collected.gone, collected.failed)),
    )
