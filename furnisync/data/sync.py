"""`sync_data.py`: wires the collector to API and history and runs it once, or for ever."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, closing

import msgspec

from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, Mode, Settings
from furnisync.data.collector import Collected, Collector
from furnisync.data.source import listings_of_shop, read_shops
from furnisync.data_status import DataStatus, cadence_of, read_data_status_from
from furnisync.database import Writer
from furnisync.errors import Terminal, Transient, UserError
from furnisync.etsy.access import open_client
from furnisync.etsy.client import EtsyClient
from furnisync.history import due
from furnisync.history.schema import open_history, open_history_reader
from furnisync.history.selection import Selection
from furnisync.instance import single_instance

log = logging.getLogger("furnisync.data")

Show = Callable[[DataStatus], None]

LOOK_AGAIN_S = 600.0
"""How often `--continuous` looks for shops that became due or that image sync found."""
LOOK_EVERY_S = 1.0
STOP_CALLS_S = 4.0
SLOW_WORKERS = 4


class DataRun(msgspec.Struct, frozen=True):
    """What the command line asked for."""

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
    ) -> None:
        """Make a run; `show` gets a picture of it about once a second."""
        self._environment = environment
        self._settings = settings
        self._run = run
        self._clock = clock
        self._show = show
        self._files = HomeFiles(environment.home, run.test)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish what is in flight and end, within some seconds; call from the event loop."""
        log.info("stopping: finishing what is in flight")
        self._stopping.set()

    async def run(self) -> bool:
        """Run to the end.

        Returns:
            whether all that was due was served; False also where it was stopped.

        Raises:
            UserError: wrong input or surroundings.
        """
        data = self._settings.data
        selection = Selection.of(data.shop_fields, data.listing_fields, data.review_fields)
        self._environment.require_key()
        read_shops(self._files)
        with single_instance(self._files.lock("data"), "data sync"):
            async with AsyncExitStack() as stack:
                writer = Writer(open_history(self._files.history, selection), "history")
                stack.callback(writer.close)
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
                return work.result()
            await client.drain(STOP_CALLS_S)
            return False
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self) -> None:
        """Show how far it is, until cancelled."""
        with closing(open_history_reader(self._files.history)) as reader:
            while True:
                status = await asyncio.to_thread(
                    read_data_status_from, reader, self._files, self._settings.data, self._clock
                )
                self._show(status)
                await asyncio.sleep(LOOK_EVERY_S)

    async def _run_rounds(self, client: EtsyClient, writer: Writer, selection: Selection) -> bool:
        while True:
            complete = await self._run_round(client, writer, selection)
            if not self._run.continuous:
                return complete
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _run_round(self, client: EtsyClient, writer: Writer, selection: Selection) -> bool:
        """Serve all that is due now; whether all of it could be served."""
        shops = await asyncio.to_thread(read_shops, self._files)
        await writer.run(due.register_shops, shops)
        lag = await writer.run(due.measure_lag, self._clock.now(), cadence_of(self._settings.data))
        log.info(
            "%d shops: %d never synced, %d due, %d half here", lag.shops, lag.never_synced,
            lag.due, lag.under_way,
        )  # fmt: skip
        collector = self._collector(client, writer, selection)
        try:
            collected = await collector.run(self._workers())
        except BaseExceptionGroup as errors:
            mendable = errors.subgroup(UserError)
            first = (mendable or errors).exceptions[0]
            if isinstance(first, UserError) or not isinstance(first, Transient | Terminal):
                raise first from None
            log.error("this round could not be finished: %s", first)  # noqa: TRY400
            return False
        _log_end(collected)
        return not collected.failed

    def _collector(self, client: EtsyClient, writer: Writer, selection: Selection) -> Collector:
        def known_listings(shop_id: int) -> Sequence[int]:
            return listings_of_shop(self._files, shop_id)

        return Collector(
            client,
            writer,
            self._clock,
            self._settings.data,
            selection,
            cadence_of(self._settings.data),
            top=self._run.top,
            known_listings=known_listings,
            furniture_only=self._run.furniture_only,
        )

    def _workers(self) -> int:
        return self._settings.api.connections if self._run.mode == "fast" else SLOW_WORKERS


def _log_end(collected: Collected) -> None:
    log.info(
        "synced %d shops with %d listing rows, %d new reviews; %d shops are gone, %d calls failed",
        collected.shops,
        collected.listings,
        collected.reviews,
        collected.gone,
        collected.failed,
    )
