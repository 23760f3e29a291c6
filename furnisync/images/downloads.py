"""(D) The download worker: a thread between the queue in the catalogue and the downloader.

    claim 500 --> Downloader (in flight) --> outcomes --> rows, in batches --> catalogue

Claims are held in memory and forgotten only once their rows are committed, so that nothing is
fetched twice and a kill leaves nothing to undo.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from pathlib import Path

from furnisync.catalog import queue
from furnisync.catalog.queue import Claim, Fetched
from furnisync.clock import Clock
from furnisync.config import ImageSettings
from furnisync.database import Writer
from furnisync.images.download import Downloader, ImageJob, Outcome
from furnisync.images.sizes import url_of_size
from furnisync.images.store import STORE_TROUBLE

log = logging.getLogger("furnisync.download")

CLAIM = 500
LOW_WATER = 250
"""Claim again when fewer than this many jobs wait."""
COMMIT_EVERY_S = 0.5
COMMIT_AT = 500
IDLE_S = 0.5
CHECK_DISK_EVERY_S = 5.0
CHECK_DISK_AT_LEAST_EVERY_S = 300.0
"""A disk that seems to have room and yet takes nothing is tried ever more rarely."""
DRAIN_S = 3.5


class DownloadWorker(threading.Thread):
    """Downloads whatever the catalogue says is due, until `stop` is called."""

    def __init__(
        self,
        writer: Writer,
        downloader: Downloader,
        settings: ImageSettings,
        folder: Path,
        clock: Clock,
        scope: Callable[[], Collection[int] | None],
    ) -> None:
        """Make the worker; `scope` gives the listings it is restricted to, None for all."""
        super().__init__(name="download", daemon=True)
        self._writer = writer
        self._downloader = downloader
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._scope = scope
        self._in_flight: set[tuple[int, int]] = set()
        self._claiming: Future[list[Claim]] | None = None
        self._committing: list[tuple[Future[None], list[tuple[int, int]]]] = []
        self._ended: list[Outcome] = []
        self._committed_at = time.monotonic()
        self._idle_until = 0.0
        self._disk_checked_at = float("-inf")
        self._disk_check_s = CHECK_DISK_EVERY_S
        self._stopping = threading.Event()
        self.paused: str | None = None
        """Why downloads pause, None where they do not."""
        self.error: BaseException | None = None
        """What ended the worker, where it was not `stop`."""

    @property
    def busy(self) -> bool:
        """Whether anything is claimed whose row is not yet committed."""
        return bool(self._in_flight) or self._claiming is not None

    def wake(self) -> None:
        """New images were queued: claim now."""
        self._idle_until = 0.0

    def stop(self) -> None:
        """Finish what is in flight within a few seconds, commit it, end."""
        self._stopping.set()

    def run(self) -> None:
        """The thread's loop; an error that ends it is kept for the owner to raise."""
        try:
            while not self._stopping.is_set():
                self._step()
            self._ended += self._downloader.drain(DRAIN_S)
            self._commit(self._ended)
            for future, _ in self._committing:
                future.result()
        except BaseException as error:
            log.exception("the download worker ended")
            self.error = error
        finally:
            self._downloader.close()

    def _step(self) -> None:
        if self._has_room():
            self._claim()
        self._ended += self._downloader.poll(0.1)
        due = time.monotonic() - self._committed_at >= COMMIT_EVERY_S
        if len(self._ended) >= COMMIT_AT or (self._ended and due):
            self._commit(self._ended)
            self._ended = []
        self._forget_committed()

    def _claim(self) -> None:
        """Keep the downloader fed without waiting for the database."""
        if self._claiming is not None:
            if not self._claiming.done():
                return
            claims = self._claiming.result()
            self._claiming = None
            self._in_flight.update((one.listing_id, one.image_id) for one in claims)
            self._downloader.submit(self._job(one) for one in claims)
            if len(claims) < CLAIM:
                self._idle_until = time.monotonic() + IDLE_S
        if self._downloader.waiting < LOW_WATER and time.monotonic() >= self._idle_until:
            self._claiming = self._writer.submit(
                queue.claim_images,
                int(self._clock.now()),
                frozenset(self._in_flight),
                CLAIM,
                self._scope(),
            )

    def _job(self, claim: Claim) -> ImageJob:
        url = url_of_size(claim.url, self._settings.size)
        return ImageJob(claim.listing_id, claim.image_id, url, claim.sha256)

    def _commit(self, outcomes: list[Outcome]) -> None:
        """Hand outcomes to the writer; those that failed for our own disk stay as they were."""
        self._committed_at = time.monotonic()
        ours = [one for one in outcomes if (one.reason or "").startswith(STORE_TROUBLE)]
        if ours:
            self._disk_check_s = min(2 * self._disk_check_s, CHECK_DISK_AT_LEAST_EVERY_S)
            self._pause(f"{ours[0].reason} in {self._folder}")
        elif any(one.verdict == "done" for one in outcomes):
            self._disk_check_s = CHECK_DISK_EVERY_S
        fetched = [_as_fetched(one) for one in outcomes if one not in ours]
        keys = [(one.job.listing_id, one.job.image_id) for one in outcomes]
        future = self._writer.submit(
            queue.record_fetched, fetched, self._settings.size, int(self._clock.now())
        )
        self._committing.append((future, keys))

    def _forget_committed(self) -> None:
        while self._committing and self._committing[0][0].done():
            future, keys = self._committing.pop(0)
            future.result()
            self._in_flight.difference_update(keys)

    def _has_room(self) -> bool:
        """Whether there is disk enough to go on; says so loudly when that changes."""
        now = time.monotonic()
        if now - self._disk_checked_at < self._disk_check_s:
            return self.paused is None
        self._disk_checked_at = now
        free_mb = shutil.disk_usage(self._folder).free / 1e6
        if free_mb < self._settings.min_free_mb:
            self._pause(
                f"only {free_mb:,.0f} MB free in {self._folder}, at least"
                f" {self._settings.min_free_mb:,.0f} MB are to stay free"
            )
        elif self.paused is not None:
            log.warning("downloads go on: %.0f MB are free", free_mb)
            self.paused = None
        return self.paused is None

    def _pause(self, reason: str) -> None:
        if self.paused is None:
            log.error("downloads pause until there is room: %s", reason)
        self.paused = reason
        self._disk_checked_at = time.monotonic()


def _as_fetched(outcome: Outcome) -> Fetched:
    return Fetched(
        outcome.job.listing_id,
        outcome.job.image_id,
        outcome.verdict,
        outcome.reason,
        outcome.file,
        outcome.size_bytes,
        outcome.width,
        outcome.height,
        outcome.sha256,
    )
