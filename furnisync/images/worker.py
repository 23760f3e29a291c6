"""(D) The download worker: a thread between the queue in the catalogue and the downloader.

    claim 500 --> Downloader (in flight) --> outcomes --> rows, in batches --> catalogue

Claims are held in memory and forgotten only once their rows are committed, so that nothing is
fetched twice and a kill leaves nothing to undo.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future

from furnisync.catalog import image_queue
from furnisync.catalog.image_queue import Claim, Fetched
from furnisync.clock import Clock
from furnisync.config import ImageSettings
from furnisync.download.downloader import Downloader, ImageJob, Outcome
from furnisync.download.sizes import url_of_size
from furnisync.images.adoption import Adoption
from furnisync.images.folder_gate import FolderGate, Pause
from furnisync.sqlite import Writer
from furnisync.store.folder import STORE_TROUBLE

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
ADOPT_S = 0.1
"""So long files are read that lie here already, before transfers are looked at again."""


class DownloadWorker(threading.Thread):
    """Downloads whatever the catalogue says is due, until `stop` is called."""

    def __init__(
        self,
        writer: Writer,
        downloader: Downloader,
        settings: ImageSettings,
        gate: FolderGate,
        clock: Clock,
        scope: Callable[[], Collection[int] | None],
        adoption: Adoption | None = None,
    ) -> None:
        """Make the worker.

        Args:
            writer: of the catalogue.
            downloader: fetches.
            settings: `[images]`.
            gate: says whether images can be written now.
            clock: the time.
            scope: gives the listings it is restricted to, None for all.
            adoption: takes over files where the catalogue began beside them.
        """
        super().__init__(name="download", daemon=True)
        self._writer = writer
        self._downloader = downloader
        self._settings = settings
        self._gate = gate
        self._adoption = adoption
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
        self.paused: Pause | None = None
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
            if self._adoption is not None and self._adoption.taken:
                log.info("%d image files were here already: taken over", self._adoption.taken)
        except BaseException as error:
            log.exception("the download worker ended")
            self.error = error
        finally:
            self._downloader.close()

    def _step(self) -> None:
        if self._may_write():
            self._claim()
        if self._adoption is None or not self._adoption.waiting:
            self._ended += self._downloader.poll(0.1)
        else:
            self._ended += self._downloader.poll(0.0)
            taken, others = self._adoption.work(ADOPT_S)
            self._ended += taken
            self._downloader.submit(self._job(one) for one in others)
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
            to_fetch = claims if self._adoption is None else self._adoption.take(claims)
            self._downloader.submit(self._job(one) for one in to_fetch)
            if len(claims) < CLAIM:
                self._idle_until = time.monotonic() + IDLE_S
        waiting = self._downloader.waiting + (self._adoption.waiting if self._adoption else 0)
        if waiting < LOW_WATER and time.monotonic() >= self._idle_until:
            self._claiming = self._writer.submit(
                image_queue.claim_images,
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
        ours = [one for one in outcomes if _reason(one).startswith(STORE_TROUBLE)]
        if ours and self.paused is None:
            self._disk_check_s = min(2 * self._disk_check_s, CHECK_DISK_AT_LEAST_EVERY_S)
            self._pause(self._gate.why_closed(test=True) or self._gate.pause_for(_reason(ours[0])))
        elif any(one.verdict == "done" for one in outcomes):
            self._disk_check_s = CHECK_DISK_EVERY_S
        fetched = [_as_fetched(one) for one in outcomes if one not in ours]
        keys = [(one.job.listing_id, one.job.image_id) for one in outcomes]
        future = self._writer.submit(
            image_queue.record_fetched, fetched, self._settings.size, int(self._clock.now())
        )
        self._committing.append((future, keys))

    def _forget_committed(self) -> None:
        while self._committing and self._committing[0][0].done():
            future, keys = self._committing.pop(0)
            future.result()
            self._in_flight.difference_update(keys)

    def _may_write(self) -> bool:
        """Whether images can be written now; says so loudly when that changes."""
        now = time.monotonic()
        if now - self._disk_checked_at >= self._disk_check_s:
            self._disk_checked_at = now
            pause = self._gate.why_closed(test=self.paused is not None)
            if pause is not None:
                self._pause(pause)
            elif self.paused is not None:
                log.warning("downloads go on: %s can be written again", self._gate.store.root)
                self.paused = None
        return self.paused is None

    def _pause(self, pause: Pause) -> None:
        if self.paused is None or self.paused.kind != pause.kind:
            log.error("downloads pause: %s", pause.reason)
        if self.paused is None:
            self._let_go()
        self.paused = pause
        self._disk_checked_at = time.monotonic()

    def _let_go(self) -> None:
        """Begin nothing that is claimed: claims live in memory only, forgetting them is enough."""
        self._claiming = None
        keys = {(job.listing_id, job.image_id) for job in self._downloader.withdraw()}
        if self._adoption is not None:
            keys |= {(one.listing_id, one.image_id) for one in self._adoption.withdraw()}
        self._in_flight -= keys


def _reason(outcome: Outcome) -> str:
    return outcome.reason or ""


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
