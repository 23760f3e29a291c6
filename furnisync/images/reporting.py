"""Tells while image sync runs: what it is doing, how far it is, and `image_metadata.json`."""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing

import msgspec

from furnisync.catalog.schema import read_catalog, set_meta
from furnisync.clock import Clock
from furnisync.config import HomeFiles, Mode, Settings
from furnisync.crawl.discovery import Discovery
from furnisync.errors import NotHere
from furnisync.images.metadata import write_metadata
from furnisync.images.recheck import mark_alive
from furnisync.images.worker import DownloadWorker
from furnisync.sqlite import Writer, read_in_thread
from furnisync.status.images import ACTIVITY, Activity, Status, read_status_from

log = logging.getLogger("furnisync.images")

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 2.0
RATE_OVER_S = 20.0
"""Images a second are averaged over about so long."""

HASTE_S = 1.0
METADATA_ROWS_PER_S = 100_000
"""Cautiously, where it was not measured yet."""
METADATA_REST = 20
"""Writing the metadata takes at most one part in so many of the time."""

Show = Callable[[Status], None]


class Reporter:
    """Looks at the catalogue once a second and passes the picture on."""

    def __init__(
        self,
        reader: sqlite3.Connection,
        writer: Writer,
        files: HomeFiles,
        settings: Settings,
        clock: Clock,
        *,
        discovery: Discovery,
        worker: DownloadWorker,
        mode: Mode,
        show: Show,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._files = files
        self._settings = settings
        self._clock = clock
        self._discovery = discovery
        self._worker = worker
        self._mode: Mode = mode
        self._show = show
        self._started_at = clock.now()
        self._told_at = float("-inf")
        self._rate = 0.0
        self._measured_s = 0.0
        self._done_before: tuple[float, int] | None = None
        self._metadata_due = time.monotonic() + settings.images.metadata_every_s
        self._metadata_took_s = 0.0
        self._metadata_version: int | None = None
        self._metadata_writing = threading.Lock()

    async def run(self) -> None:
        """Look and tell until cancelled.

        Raises:
            whatever ended the download worker, since a run without it is not a run.
            NotHere: the home's disk went away.
        """
        while True:
            if not self._files.catalog.exists():
                raise NotHere(
                    f"The home {self._files.home} is not here any more: mount its disk, then start"
                    " again; what was committed is kept."
                )
            if self._worker.error is not None:
                raise self._worker.error
            status = await read_in_thread(read_status_from, self._reader, self._files, self._clock)
            self._measure(status)
            self._show(status)
            now = time.monotonic()
            if now - self._told_at >= TELL_EVERY_S:
                self._told_at = now
                await self._writer.run(self._tell)
            if now >= self._metadata_due:
                await asyncio.to_thread(self._write_metadata)
            await asyncio.sleep(LOOK_EVERY_S)

    def finish(self, *, in_haste: bool) -> None:
        """At the end of a run: the metadata file, and that nothing runs any more.

        Args:
            in_haste: a signal ended the run; a file that takes long is left as it was last written.
        """
        self._writer.submit(self._tell_ended).result()
        if not self._files.catalog.exists():
            return  # the home's disk is away: nothing is written where it was mounted
        if in_haste and self._metadata_will_take_s() > HASTE_S:
            log.info("%s is left as last written: it takes long", self._files.metadata.name)
        else:
            self._metadata_version = None  # counters can stay equal where urls or ranks changed
            self._write_metadata()

    def _metadata_will_take_s(self) -> float:
        if self._metadata_took_s:
            return self._metadata_took_s
        rows = self._reader.execute("SELECT coalesce(sum(value), 0) FROM counters").fetchone()[0]
        size = self._reader.execute("SELECT value FROM counters WHERE name = 'images.bytes'")
        return float((rows - (size.fetchone() or (0,))[0]) / METADATA_ROWS_PER_S)

    def _tell(self, connection: sqlite3.Connection) -> None:
        pause = self._worker.paused
        activity = Activity(
            mode=self._mode,
            doing=self._discovery.doing,
            started_at=self._started_at,
            at=self._clock.now(),
            downloads_paused=None if pause is None else pause.reason,
            downloads_paused_kind=None if pause is None else pause.kind,
            images_per_second=round(self._rate, 2),
        )
        set_meta(connection, ACTIVITY, msgspec.json.encode(activity).decode())
        mark_alive(connection, int(self._clock.now()))

    def _tell_ended(self, connection: sqlite3.Connection) -> None:
        set_meta(connection, ACTIVITY, None)

    def _measure(self, status: Status) -> None:
        """Exponential average of images a second."""
        now, done = time.monotonic(), status.images.get("done", 0)
        if self._done_before is not None:
            then, before = self._done_before
            passed = max(now - then, 1e-3)
            self._measured_s += passed
            weight = min(1.0, passed / min(RATE_OVER_S, self._measured_s))
            self._rate += weight * (max(0, done - before) / passed - self._rate)
        self._done_before = (now, done)

    def _write_metadata(self) -> None:
        """Write the file if the catalogue changed since; a full disk leaves the old one."""
        with self._metadata_writing:  # a cancelled `run` leaves its thread at work
            self._write_metadata_alone()

    def _write_metadata_alone(self) -> None:
        began = time.monotonic()
        rest_s = METADATA_REST * self._metadata_took_s
        self._metadata_due = began + max(self._settings.images.metadata_every_s, rest_s)
        with closing(read_catalog(self._files.catalog)) as reader:
            counters = reader.execute("SELECT name, value FROM counters ORDER BY name").fetchall()
            version = hash(tuple(map(tuple, counters)))
            if version == self._metadata_version and self._files.metadata.exists():
                return
            try:
                number = write_metadata(reader, self._files.metadata, self._files.images.name)
            except OSError as error:
                log.error(  # noqa: TRY400 -- the disk, not the code
                    "%s could not be written: %s", self._files.metadata, error
                )
                return
        self._metadata_version = version
        self._metadata_took_s = time.monotonic() - began
        log.info("%s written: %d listings", self._files.metadata.name, number)
