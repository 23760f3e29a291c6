"""`sync_images.py`: wires discovery and downloads together for one run.

Discovery (asyncio) --rows--> catalog <--rows-- DownloadWorker (a thread)
     |                            |
  EtsyClient -- Ledger         Reporter: activity, progress, image_metadata.json
"""

import asyncio
import logging
import math
from contextlib import AbstractAsyncContextManager, AsyncExitStack, closing

import msgspec

from furnisync.catalog import image_queue, listings
from furnisync.catalog.image_folder import identify, settle
from furnisync.catalog.run_scope import restrict
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import DAY_S, Clock
from furnisync.config import Environment, HomeFiles, Mode, Settings
from furnisync.crawl.discovery import Discovery, Scope, reset_shops
from furnisync.crawl.plan_file import load_plan, ship_plan
from furnisync.download.downloader import Downloader
from furnisync.download.limits import download_limits
from furnisync.download.sizes import smaller_than
from furnisync.errors import ConfigError
from furnisync.etsy.access import open_client
from furnisync.etsy.client import EtsyClient
from furnisync.http.network import read_network
from furnisync.identity import Mark
from furnisync.images.adoption import Adoption, begun_beside_files
from furnisync.images.cdn_gate import CdnGate
from furnisync.images.controls import Controls
from furnisync.images.folder_gate import FolderGate
from furnisync.images.loop_lag import LoopLag
from furnisync.images.metadata import guard_metadata
from furnisync.images.metadata_writer import MetadataWriter
from furnisync.images.recheck import mark_ended, mark_running
from furnisync.images.reporting import Reporter, Show
from furnisync.images.stages import Stages, Upkeep
from furnisync.images.worker import DownloadWorker, JobQueue
from furnisync.lockfile import single_instance
from furnisync.outbox import Outbox
from furnisync.sqlite.writer import Writer
from furnisync.store.folder import FolderStore

__all__ = ["ImageRun", "ImageSync", "download_limits"]

log = logging.getLogger("furnisync.images")


class ImageRun(msgspec.Struct, frozen=True):
    """What the command line asked for."""

    mode: Mode = "slow"
    scope: Scope = Scope()
    reset_shops: bool = False
    test: bool = False

    @property
    def ends(self) -> bool:
        """Whether the run ends when its work is done; slow mode never does."""
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
        """Make a run; `show` gets its status once a second, `upkeep` runs before each round."""
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
            UserError: wrong input or surroundings; nothing was begun, or all of it is kept.
        """
        self._environment.require_key()
        ship_plan(self._files.plan)
        load_plan(self._files.plan, None)
        with single_instance(self._files.lock("images"), "image sync"):
            async with AsyncExitStack() as stack:
                writer = Writer(open_catalog(self._files.catalog), "catalog")
                stack.callback(writer.close)
                await writer.run(guard_metadata, self._files.metadata)
                clean = await self._prepare(writer)
                mark = await self._prepare_folder(writer)
                reader = stack.enter_context(closing(read_catalog(self._files.catalog)))
                client = await stack.enter_async_context(self._open_client())
                outbox = Outbox(self._files.outbox("images"), self._files.history)
                stack.callback(outbox.close)
                stages = self._wire(client, writer, mark)
                stages.discovery.leave_answers_in(outbox)
                every_s = self._settings.images.metadata_every_s
                metadata = MetadataWriter(self._files, every_s, self._stopping.is_set)
                reporter = Reporter(
                    stages, self._run.mode, self._files, reader, metadata, self._show
                )
                stack.callback(reporter.finish)
                complete = await stages.run(reporter.run, clean=clean)
                await writer.run(mark_ended)
                return complete

    async def _prepare(self, writer: Writer) -> bool:
        """Adapt the catalog to settings and command line.

        Returns:
            whether the last run ended cleanly.
        """
        now = int(self._clock.now())
        images = self._settings.images
        if not self._run.scope.everything:
            await writer.run(restrict, ())
        if self._run.reset_shops:
            await writer.run(reset_shops, now)
        queued = await writer.run(
            image_queue.apply_wanted, images.size, images.which, smaller_than(images.size), now
        )
        hosts = ",".join(sorted(self._environment.cdn_hosts))
        refusing = f"{hosts} {images.max_bytes} {images.max_pixels}"
        queued += await writer.run(image_queue.apply_refusals, refusing, now)
        if queued:
            log.info("the settings want %d more images of listings that are known", queued)
        return await writer.run(mark_running, now)

    async def _prepare_folder(self, writer: Writer) -> Mark:
        """Make or recognize the image folder; the worker reports one that is away or refuses.

        Returns:
            the mark that the folder should have.
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
                    " move away what has its name."
                ) from error
            # The worker meets the same and pauses, until it passes.
            log.info("%s cannot be prepared now (%s)", folder, error.strerror)
        return mark

    def _open_client(self) -> AbstractAsyncContextManager[EtsyClient]:
        mode, settings = self._run.mode, self._settings
        return open_client("images", mode, self._environment, self._files, settings, self._clock)

    def _wire(self, client: EtsyClient, writer: Writer, mark: Mark) -> Stages:
        """Connect the stages of this run."""
        images, mode = self._settings.images, self._run.mode
        client.upstreams.patience_s = self._settings.api.outage_patience_s
        client.upstreams.on_recovered = lambda since: writer.run(listings.restore_batches, since)
        if not self._run.ends:
            client.clock.patience_s = client.upstreams.patience_s = math.inf
        discovery = Discovery(
            client,
            writer,
            self._settings,
            self._files,
            self._run.scope,
            pages_at_once=self._settings.api.connections if mode == "fast" else 2,
        )
        restricted = not self._run.scope.everything
        store = FolderStore(self._files.images, mark)
        gate = FolderGate(self._files, store, mark, images.min_free_mb)
        limits = download_limits(images, mode, self._environment)
        network = read_network(self._environment.network)
        controls = Controls(
            writer, images.size, limits, client.clock, network, self._stopping.is_set
        )
        worker = DownloadWorker(
            JobQueue(writer, client.clock, images.size, restricted=restricted),
            Downloader(store, limits, client.clock, network),
            gate,
            CdnGate(client.clock, controls.fetch),
            LoopLag(),
            Adoption(store, images) if self._adopts else None,
        )
        return Stages(
            writer,
            client,
            discovery,
            gate,
            worker,
            self._clock,
            refresh_s=int(self._settings.crawl.refresh_days * DAY_S),
            ends=self._run.ends,
            restricted=restricted,
            cdn_patience_s=images.outage_patience_s if self._run.ends else math.inf,
            upkeep=self._upkeep,
            stopping=self._stopping,
        )
