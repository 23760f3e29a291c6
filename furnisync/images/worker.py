"""(D) The download worker: a thread between the queue in the catalog and the downloader.

    claim 500 jobs --> Downloader (in flight) --> outcomes --> rows, in batches --> catalog

Claims are held in memory and dropped only once their rows are committed, so that nothing is
fetched twice and a kill leaves nothing to undo.
"""

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable
from concurrent.futures import Future
from datetime import datetime

import msgspec

from furnisync.catalog import image_queue
from furnisync.circuit_breaker import Outage
from furnisync.clock import DAY_S, Clock
from furnisync.config import ImageSize
from furnisync.download.downloader import Downloader
from furnisync.download.sizes import url_of_size
from furnisync.image_job import ImageJob, ImageOutcome, ReasonCode
from furnisync.images.adoption import Adoption
from furnisync.images.cdn_gate import CdnGate
from furnisync.images.folder_gate import FolderGate, Pause
from furnisync.images.loop_lag import LoopLag
from furnisync.images.repeats import RepeatedPictures
from furnisync.sqlite.writer import Writer

__all__ = ["DownloadWorker", "JobQueue"]

log = logging.getLogger("furnisync.download")

CLAIM = 500
LOW_WATER = 250
"""Claim again when fewer than this many jobs wait."""
COMMIT_EVERY_S = 0.5
COMMIT_AT = 500
IDLE_S = 0.5
CHECK_DISK_EVERY_S = 5.0
CHECK_DISK_AT_LEAST_EVERY_S = 300.0
"""A disk that seems to have room and yet takes nothing is tried more and more rarely."""
DRAIN_S = 3.5
ADOPT_S = 0.1
"""Existing files are read for this long before transfers are polled again."""


class JobQueue:
    """The image queue of the catalog, for a thread that must not wait for the database."""

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        size: ImageSize,
        *,
        restricted: bool = False,
    ) -> None:
        """Make a queue.

        Args:
            writer: of the catalog.
            clock: the time.
            size: the size to fetch.
            restricted: to the listings in `run_scope`.
        """
        self._writer = writer
        self._clock = clock
        self._size = size
        self._restricted = restricted
        self._repeats = RepeatedPictures()

    def claim(self, in_flight: Iterable[tuple[int, int]]) -> Future[list[ImageJob]]:
        """Claim up to `CLAIM` jobs that are due and not in flight."""
        now = int(self._clock.now())
        return self._writer.submit(
            _claim_sized, now, frozenset(in_flight), self._size, self._restricted
        )

    def put_back(self, outcomes: list[ImageOutcome]) -> Future[None]:
        """Fetch again what came as a placeholder."""
        keys, now = [one.job.key for one in outcomes], int(self._clock.now())
        return self._writer.submit(image_queue.requeue, keys, ReasonCode.SAME_BYTES, now)

    def record(self, outcomes: list[ImageOutcome]) -> Future[None]:
        """Commit how jobs ended; what is doubtful is fetched once more, a day later."""
        now, doubtful = int(self._clock.now()), self._repeats.doubt(outcomes)
        return self._writer.submit(_record, outcomes, doubtful, self._size, now)


class DownloadWorker(threading.Thread):
    """Downloads what the catalog says is due, until `stop` is called.

    Attributes:
        lag: of the event loop that API calls run in.
        paused: why downloads pause; None where they do not.
        error: what ended the worker, where it was not `stop`.
    """

    def __init__(
        self,
        queue: JobQueue,
        downloader: Downloader,
        gate: FolderGate,
        cdn: CdnGate,
        lag: LoopLag,
        adoption: Adoption | None = None,
    ) -> None:
        """Make the worker.

        Args:
            queue: gives jobs and takes outcomes.
            downloader: fetches.
            gate: says whether images can be written now.
            cdn: decides whether the image server is broken.
            lag: says when to leave the processor to API calls.
            adoption: adopts existing files where the catalog was lost.
        """
        super().__init__(name="download", daemon=True)
        self._queue = queue
        self._downloader = downloader
        self._gate = gate
        self._cdn = cdn
        self._adoption = adoption
        self.lag = lag
        self._in_flight: set[tuple[int, int]] = set()
        self._claiming: Future[list[ImageJob]] | None = None
        self._committing: list[tuple[Future[None], list[tuple[int, int]]]] = []
        self._ended: list[ImageOutcome] = []
        self._committed_at = time.monotonic()
        self._idle_until = 0.0
        self._nothing_due = False
        self._disk_checked_at = float("-inf")
        self._disk_check_s = CHECK_DISK_EVERY_S
        self._stopping = threading.Event()
        self.paused: Pause | None = None
        self.error: BaseException | None = None

    @property
    def outage(self) -> Outage | None:
        """What is broken at the image server; None while it works."""
        return self._cdn.outage

    @property
    def outage_lasts_s(self) -> float:
        """Seconds since it is broken; 0 while it works."""
        return self._cdn.breaker.lasts_s

    @property
    def why_paused(self) -> Pause | None:
        """Why downloads pause, whoever is the reason: the image folder or the image server."""
        until, reason = self._downloader.paused_until, self._downloader.pause_reason
        if self.paused is not None:
            return self.paused
        if (outage := self.outage) is not None:
            return Pause("server", f"{outage.upstream} is broken: {outage.reason}")
        if until is None or reason is None:
            return None
        return Pause("server", f"{reason}, until {datetime.fromtimestamp(until).astimezone():%X}")

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
            self._take(self._downloader.drain(DRAIN_S))
            self._ended += self._cdn.leave()
            self._commit()
            for future, _ in self._committing:
                future.result()
            if self._adoption is not None and self._adoption.adopted:
                log.info("%d image files were here already: adopted", self._adoption.adopted)
        except BaseException as error:
            log.exception("the download worker ended")
            self.error = error
        finally:
            self._downloader.close()

    def _step(self) -> None:
        if (rest_s := self.lag.rest_s) > 0:
            time.sleep(rest_s)
        if self._may_write():
            self._claim()
        if self._adoption is None or not self._adoption.waiting:
            self._take(self._downloader.poll(0.1))
        else:
            self._take(self._downloader.poll(0.0))
            adopted, others = self._adoption.work(ADOPT_S)
            self._ended += adopted
            self._downloader.submit(others)
        due = time.monotonic() - self._committed_at >= COMMIT_EVERY_S
        if len(self._ended) >= COMMIT_AT or (self._ended and due):
            self._commit()
        self._release_committed()

    def _take(self, outcomes: list[ImageOutcome]) -> None:
        """Keep what is decided for the next commit, and forget what the image server spoiled."""
        self._ended += self._cdn.sort(outcomes)
        nothing_else = not (self._downloader.active or self._downloader.waiting)
        if self._cdn.undecided and nothing_else and self._nothing_due:
            self._ended += self._cdn.settle()
        dropped, self._cdn.dropped = self._cdn.dropped, []
        if dropped:
            self._drop_claims()
            keys = {one.job.key for one in dropped}
            self._ended = [one for one in self._ended if one.job.key not in keys]
            spoiled = [one for one in dropped if one.file is not None]
            for one in spoiled:
                self._gate.store.remove(str(one.file))
            self._committing.append((self._queue.put_back(spoiled), list(keys)))

    def _claim(self) -> None:
        """Keep the downloader fed without waiting for the database."""
        if self._claiming is not None:
            if not self._claiming.done():
                return
            jobs = self._claiming.result()
            self._claiming = None
            self._nothing_due = not jobs
            if self._cdn.outage is not None:
                jobs = random.sample(jobs, min(1, len(jobs)))  # the probe
                if not jobs:
                    self._cdn.breaker.drop_probe()
            self._in_flight.update(job.key for job in jobs)
            self._downloader.submit(jobs if self._adoption is None else self._adoption.take(jobs))
            if len(jobs) < CLAIM:
                self._idle_until = time.monotonic() + IDLE_S
        waiting = self._downloader.waiting + (self._adoption.waiting if self._adoption else 0)
        due = waiting < LOW_WATER and time.monotonic() >= self._idle_until
        if due and self._cdn.may_claim():
            self._claiming = self._queue.claim(self._in_flight)

    def _commit(self) -> None:
        """Commit what ended; jobs that failed for our own disk stay in the queue as they were."""
        outcomes, self._ended = self._ended, []
        self._committed_at = time.monotonic()
        local = [one.reason for one in outcomes if one.reason and one.reason.is_local]
        if local and self.paused is None:
            self._disk_check_s = min(2 * self._disk_check_s, CHECK_DISK_AT_LEAST_EVERY_S)
            self._pause(self._gate.why_closed(test=True) or self._gate.pause_for(local[0]))
        elif any(one.result == "done" for one in outcomes):
            self._disk_check_s = CHECK_DISK_EVERY_S
        recorded = [one for one in outcomes if not (one.reason and one.reason.is_local)]
        keys = [one.job.key for one in outcomes]
        self._committing.append((self._queue.record(recorded), keys))

    def _release_committed(self) -> None:
        while self._committing and self._committing[0][0].done():
            future, keys = self._committing.pop(0)
            future.result()
            self._in_flight.difference_update(keys)

    def _may_write(self) -> bool:
        """Whether images can be written now; logs when that changes."""
        now = time.monotonic()
        if now - self._disk_checked_at >= self._disk_check_s:
            self._disk_checked_at = now
            pause = self._gate.why_closed(test=self.paused is not None)
            if pause is not None:
                self._pause(pause)
            elif self.paused is not None:
                log.warning("downloads continue: %s can be written again", self._gate.store.root)
                self.paused = None
        return self.paused is None

    def _pause(self, pause: Pause) -> None:
        if self.paused is None or self.paused.kind != pause.kind:
            log.error("downloads pause: %s", pause.reason)
        if self.paused is None:
            self._drop_claims()
        self.paused = pause
        self._disk_checked_at = time.monotonic()

    def _drop_claims(self) -> None:
        """Begin nothing that is claimed: claims are only in memory, so dropping them is enough."""
        self._claiming = None
        dropped = self._downloader.withdraw()
        if self._adoption is not None:
            dropped += self._adoption.withdraw()
        self._in_flight.difference_update(job.key for job in dropped)


def _record(
    connection: sqlite3.Connection,
    outcomes: list[ImageOutcome],
    doubtful: list[tuple[int, int]],
    size: ImageSize,
    now: int,
) -> None:
    image_queue.record_outcomes(connection, outcomes, size, now)
    image_queue.fetch_again(connection, doubtful, ReasonCode.SAME_BYTES, now + DAY_S)


def _claim_sized(
    connection: sqlite3.Connection,
    now: int,
    in_flight: Collection[tuple[int, int]],
    size: ImageSize,
    restricted: bool,  # noqa: FBT001 -- `Writer.submit` passes by position
) -> list[ImageJob]:
    """Claim jobs, with the urls of the wanted size."""
    jobs = image_queue.claim_images(connection, now, in_flight, CLAIM, restricted=restricted)
    return [msgspec.structs.replace(job, url=url_of_size(job.url, size)) for job in jobs]
