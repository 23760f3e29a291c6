"""Reports while image sync runs: what it is doing, how far it is, and `image_metadata.json`."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

import msgspec
from rich.filesize import decimal

from furnisync.catalog.schema import set_meta
from furnisync.clock import Clock
from furnisync.config import HomeFiles, Mode
from furnisync.errors import NotHere
from furnisync.images.metadata_writer import MetadataWriter
from furnisync.images.recheck import mark_alive
from furnisync.images.stages import Stages
from furnisync.sqlite.writer import read_in_thread
from furnisync.status.eta import duration, seconds_for_calls
from furnisync.status.images import ACTIVITY, Activity, Status, read_status_from

__all__ = ["Reporter", "Show"]

log = logging.getLogger("furnisync.images")

READ_EVERY_S = 1.0
RECORD_EVERY_S = 2.0
RATE_OVER_S = 20.0
"""Images a second are averaged over about so long."""

Show = Callable[[Status], None]


class Reporter:
    """Reads the status once a second and passes it on."""

    def __init__(
        self,
        stages: Stages,
        mode: Mode,
        files: HomeFiles,
        reader: sqlite3.Connection,
        metadata: MetadataWriter,
        show: Show,
    ) -> None:
        """Make a reporter; `reader` is of the catalog, `show` gets each status."""
        self._stages = stages
        self._mode: Mode = mode
        self._files = files
        self._reader = reader
        self._metadata = metadata
        self._show = show
        self._started_at = self._clock.now()
        self._recorded_at = float("-inf")
        self._rate = 0.0
        self._measured_s = 0.0
        self._warned_of_disk = False
        self._told_forecast = False
        self._done_before: tuple[float, int] | None = None

    @property
    def _clock(self) -> Clock:
        return self._stages.client.clock

    async def run(self) -> None:
        """Report until cancelled.

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
            if self._stages.worker.error is not None:
                raise self._stages.worker.error
            status = await read_in_thread(read_status_from, self._reader, self._files, self._clock)
            self._measure(status)
            self._tell_forecast(status)
            self._warn_of_disk(status)
            self._show(status)
            now = time.monotonic()
            if now - self._recorded_at >= RECORD_EVERY_S:
                self._recorded_at = now
                await self._stages.writer.run(self._record_activity)
            if self._metadata.due:
                await asyncio.to_thread(self._metadata.write)
            await asyncio.sleep(READ_EVERY_S)

    def finish(self) -> None:
        """At the end of a run: record that nothing runs any more, and write the metadata file."""
        self._stages.writer.submit(set_meta, ACTIVITY, None).result()
        if self._files.catalog.exists():  # else the home's disk is away: write nothing there
            self._metadata.finish(self._reader, stopped=self._stages.stopping.is_set())

    def _tell_forecast(self, status: Status) -> None:
        """Once a run that reads a pass: what is ahead of it, as soon as some counts are known."""
        current, disk = status.current_pass, status.disk
        if self._told_forecast or current is None or disk is None or status.quota is None:
            return
        if current.finished_at is not None or not current.listings_counted:
            return
        self._told_forecast = True
        seconds = seconds_for_calls(status.calls_left, status.quota)
        log.info(
            "about %s listings: %s calls to make%s; the missing images take about %s, %s are free",
            f"{current.listings_expected:,}",
            f"{status.calls_left:,}",
            "" if seconds is None else f", {duration(seconds)} at this quota",
            decimal(disk.needed_bytes),
            decimal(disk.free_bytes),
        )

    def _warn_of_disk(self, status: Status) -> None:
        """Once a run, as soon as Etsy's counts show that the images will not fit."""
        disk = status.disk
        if disk is not None and not disk.fits and not self._warned_of_disk:
            self._warned_of_disk = True
            log.warning(
                "the missing images take about %s, but only %s are free: use a larger disk, or a"
                " smaller `size` under [images]",
                decimal(disk.needed_bytes),
                decimal(disk.free_bytes),
            )

    def _record_activity(self, connection: sqlite3.Connection) -> None:
        pause = self._stages.worker.why_paused
        activity = Activity(
            mode=self._mode,
            doing=self._stages.discovery.doing,
            started_at=self._started_at,
            at=self._clock.now(),
            downloads_paused=None if pause is None else pause.reason,
            downloads_paused_kind=None if pause is None else pause.kind,
            outage=self._stages.worker.outage,
            images_per_second=round(self._rate, 2),
        )
        set_meta(connection, ACTIVITY, msgspec.json.encode(activity).decode())
        mark_alive(connection, int(self._clock.now()))

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
