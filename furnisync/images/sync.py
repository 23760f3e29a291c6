"""`sync_images.py`: wires discovery and downloads together and runs them to their end, or for ever.

Discovery (asyncio) --rows--> catalogue <--rows-- DownloadWorker (a thread)
     |                            |
  EtsyClient -- Ledger         Reporter: activity, progress, image_metadata.json
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing

import msgspec

from furnisync import __version__
from furnisync.catalog import queue
from furnisync.catalog.image_folder import identify, settle
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.catalog.wrong_clock import repair_times, times_ahead
from furnisync.clock import Clock
from furnisync.config import Environment, HomeFiles, ImageSettings, Mode, Settings
from furnisync.database import Writer
from furnisync.errors import ClockWrong, ConfigError, Terminal, Transient, UserError
from furnisync.etsy.access import open_client
from furnisync.etsy.client import EtsyClient
from furnisync.etsy.clock_check import ClockCheck
from furnisync.identity import Mark
from furnisync.images.adoption import Adoption, begun_beside_files
from furnisync.images.discovery import DAY_S, Discovery, Scope, reset_shops
from furnisync.images.download import Downloader, DownloadLimits
from furnisync.images.downloads import DownloadWorker
from furnisync.images.folder_gate import FolderGate
from furnisync.images.metadata import guard_metadata
from furnisync.images.plan_file import load_plan, ship_plan
from furnisync.images.recheck import mark_ended, mark_running, recheck_recent
from furnisync.images.reporting import Reporter, Show
from furnisync.images.sizes import smaller_than
from furnisync.images.store import FolderStore
from furnisync.instance import single_instance

log = logging.getLogger("furnisync.images")

Upkeep = Callable[[Writer, ClockCheck], Awaitable[None]]

RETRY_ROUND_S = 600.0
"""What could not be done in a round of slow mode is tried again after this."""
WAIT_FOR_IMAGES_S = 60
"""A run that ends waits for retries of images that are due this soon; later ones are left."""
STOP_CALLS_S = 4.0


class ImageRun(msgspec.Struct, frozen=True):
    """What the command line asked for."""

    mode: Mode = "slow"
    scope: Scope = Scope()
    reset_shops: bool = False
    test: bool = False

    @property
    def ends(self) -> bool:
        """Whether the run ends when its work is done; slow mode goes on for ever."""
        return self.mode == "fast" or not self.scope.everything


class ImageSync:
    """One run of image sync on a home; make it inside the home's lock."""

    def __init__(
        self,
        environment: Environment,
        settings: Settings,
        run: ImageRun,
        clock: Clock,
        show: Show,
        upkeep: Upkeep | None = None,
    ) -> None:
        """Make a run; `show` gets a picture of it about once a second, `upkeep` each round."""
        self._environment = environment
        self._settings = settings
        self._run = run
        self._clock = clock
        self._show = show
        self._upkeep = upkeep
        self._files = HomeFiles(environment.home, run.test)
        self._stopping = asyncio.Event()
        self._adopts = False

    def stop(self) -> None:
        """Finish what is in flight and end, within some seconds; call from the event loop."""
        log.info("stopping: finishing what is in flight")
        self._stopping.set()

    async def run(self) -> bool:
        """Run to the end.

        Returns:
            whether everything that was asked for was done; False also where it was stopped.

        Raises:
            UserError: wrong input or surroundings, nothing begun or all of it kept.
        """
        self._environment.require_key()
        ship_plan(self._files.plan)
        load_plan(self._files.plan, None)
        with single_instance(self._files.lock("images"), "image sync"):
            async with AsyncExitStack() as stack:
                writer = Writer(open_catalog(self._files.catalog), "catalogue")
                stack.callback(writer.close)
                await writer.run(guard_metadata, self._files.metadata)
                clean = await self._prepare(writer)
                mark = await self._prepare_folder(writer)
                reader = stack.enter_context(closing(read_catalog(self._files.catalog)))
                client = await stack.enter_async_context(
                    open_client(
                        "images",
                        self._run.mode,
                        self._environment,
                        self._files,
                        self._settings,
                        self._clock,
                    )
                )
                if not self._run.ends:
                    client.clock.patience_s = math.inf
                discovery = self._discovery(client, writer)
                store = FolderStore(self._files.images, mark)
                gate = FolderGate(self._files, store, mark, self._settings.images.min_free_mb)
                worker = self._worker(client.clock, writer, gate, discovery)
                reporter = Reporter(
                    reader,
                    writer,
                    self._files,
                    self._settings,
                    client.clock,
                    discovery=discovery,
                    worker=worker,
                    mode=self._run.mode,
                    show=self._show,
                )
                stack.callback(lambda: reporter.finish(in_haste=self._stopping.is_set()))
                complete = await self._work(
                    discovery, client, writer, gate, worker, reporter, clean
                )
                await writer.run(mark_ended)
                return complete

    async def _prepare(self, writer: Writer) -> bool:
        """Bring the catalogue in line with settings and command line.

        Returns:
            whether the last run ended cleanly.
        """
        now = int(self._clock.now())
        images = self._settings.images
        if self._run.reset_shops:
            await writer.run(reset_shops, now)
        queued = await writer.run(
            queue.apply_wanted, images.size, images.which, smaller_than(images.size), now
        )
        hosts = ",".join(sorted(self._environment.cdn_hosts))
        refusing = f"{hosts} {images.max_bytes} {images.max_pixels}"
        queued += await writer.run(queue.apply_refusals, refusing, now)
        if queued:
            log.info("the settings want %d more images of listings that are known", queued)
        return await writer.run(mark_running)

    async def _prepare_folder(self, writer: Writer) -> Mark:
        """Make or recognise the image folder; one that is away, or refuses, is the worker's to say.

        Returns:
            the mark that the folder should bear.
        """
        folder = self._files.images
        mark = await writer.run(identify, self._files)
        try:
            self._adopts = await writer.run(begun_beside_files, folder, int(self._clock.now()))
            await writer.run(settle, self._files, mark)
        except OSError as error:
            if folder.exists() and not folder.is_dir():
                raise ConfigError(
                    f"{folder} cannot be made a folder of images ({error.strerror}):"
                    " move away what stands in its place."
                ) from error
            # The worker meets the same and pauses, until it passes.
            log.info("%s cannot be prepared now (%s)", folder, error.strerror)
        return mark

    def _discovery(self, client: EtsyClient, writer: Writer) -> Discovery:
        fast = self._run.mode == "fast"
        return Discovery(
            client,
            writer,
            client.clock,
            self._settings,
            self._files.plan,
            self._run.scope,
            pages_at_once=self._settings.api.connections if fast else 2,
        )

    def _worker(
        self, clock: ClockCheck, writer: Writer, gate: FolderGate, discovery: Discovery
    ) -> DownloadWorker:
        limits = download_limits(self._settings.images, self._run.mode, self._environment)
        return DownloadWorker(
            writer,
            Downloader(gate.store, limits, clock),
            self._settings.images,
            gate,
            clock,
            discovery.within,
            Adoption(gate.store, self._settings.images) if self._adopts else None,
        )

    async def _work(
        self,
        discovery: Discovery,
        client: EtsyClient,
        writer: Writer,
        gate: FolderGate,
        worker: DownloadWorker,
        reporter: Reporter,
        clean: bool,  # noqa: FBT001
    ) -> bool:
        """Run the stages side by side until the work is done, one breaks, or we are told to end."""

        async def begin_downloads() -> None:
            if not clean:
                await asyncio.to_thread(
                    recheck_recent,
                    writer,
                    gate.store,
                    self._clock,
                    gate.is_here,
                    self._stopping.is_set,
                )
            worker.start()

        begin = asyncio.create_task(begin_downloads())
        work = asyncio.create_task(self._run_rounds(discovery, client, writer, worker, begin))
        report = asyncio.create_task(reporter.run())
        stop = asyncio.create_task(self._stopping.wait())
        tasks = (work, report, stop, begin)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if done == {begin}:
                begin.result()
                await asyncio.wait((work, report, stop), return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                worker.stop()
                await client.drain(STOP_CALLS_S)
                return False
            if report.done():
                report.result()
            return work.result()
        except ClockWrong as error:
            log.error("%s", error)  # noqa: TRY400 -- the clock, not the code
            return False
        finally:
            writer.hurry()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            worker.stop()
            if worker.is_alive():
                await asyncio.to_thread(worker.join)

    async def _run_rounds(
        self,
        discovery: Discovery,
        client: EtsyClient,
        writer: Writer,
        worker: DownloadWorker,
        begin: asyncio.Task[None],
    ) -> bool:
        while True:
            if self._upkeep is not None:
                await self._upkeep(writer, client.clock)
            await self._repair_times(client, writer)
            complete = await self._round(discovery)
            if self._run.ends:
                await begin
                return await self._wait_for_images(discovery, writer, worker) and complete
            pause_s = await discovery.seconds_to_next() if complete else RETRY_ROUND_S
            await asyncio.sleep(pause_s)

    async def _repair_times(self, client: EtsyClient, writer: Writer) -> None:
        """Repair what a clock that was ahead has written; where ours is behind now, wait for it."""
        refresh_s = int(self._settings.crawl.refresh_days * DAY_S)
        if not await writer.run(times_ahead, int(self._clock.now()), refresh_s):
            return
        try:
            now = await client.clock.trusted_now()
        except UserError:
            raise
        except (Transient, Terminal) as error:
            log.warning("times ahead of now are not repaired yet: %s", error)
            return
        if await writer.run(times_ahead, int(now), refresh_s):
            log.warning("the catalogue had times ahead of now, which a wrong clock wrote: repaired")
            await writer.run(repair_times, int(now), refresh_s)

    async def _round(self, discovery: Discovery) -> bool:
        """One round; a failure that may pass costs only the round.

        Raises:
            UserError: it will not pass by itself.
        """
        try:
            return await discovery.run_round()
        except BaseExceptionGroup as errors:
            error = _weightiest(errors)
            if isinstance(error, UserError) or not isinstance(error, Transient | Terminal):
                raise error from None
            log.error("this round could not be finished: %s", error)  # noqa: TRY400
            return False

    async def _wait_for_images(
        self, discovery: Discovery, writer: Writer, worker: DownloadWorker
    ) -> bool:
        """Until every image that is due, or will be within a minute, had its try.

        Returns:
            whether they had it; False where they wait for an image folder that is away.
        """
        discovery.doing = "downloading the last images"
        worker.wake()
        while worker.error is None:
            due = await writer.run(queue.next_image_due, discovery.within())
            if not worker.busy and (due is None or due > self._clock.now() + WAIT_FOR_IMAGES_S):
                return True
            pause = worker.paused
            if pause is not None and pause.kind == "away" and not worker.busy:
                log.error("the images that are left are not waited for: %s", pause.reason)
                return False
            await asyncio.sleep(0.1)
        raise worker.error


def _weightiest(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of a group of errors the one to act on: what only the user can mend before all others."""
    mendable = errors.subgroup(UserError)
    first = (mendable or errors).exceptions[0]
    return _weightiest(first) if isinstance(first, BaseExceptionGroup) else first


def download_limits(
    settings: ImageSettings, mode: Mode, environment: Environment
) -> DownloadLimits:
    """The downloader's limits in a mode."""
    slow = mode == "slow"
    return DownloadLimits(
        connections=settings.slow_connections if slow else settings.fast_connections,
        per_second=settings.slow_per_second if slow else settings.fast_per_second,
        max_bytes=settings.max_bytes,
        max_pixels=settings.max_pixels,
        timeout_s=settings.timeout_s,
        allowed_hosts=environment.cdn_hosts,
        user_agent=f"furnisync/{__version__}",
    )
