"""Fetches images: jobs in, outcomes out. Knows neither the API nor the catalogue.

    submit --> queue --> (pace, back-off) --> transfers --> check --> store --> poll's outcomes

Nothing here asks for a key, so none can be sent. Addresses are checked before a connection is made,
those of redirects too. Bodies are in memory only while they are under way, so that the most that is
needed is `connections * max_bytes`, and in practice a few megabytes.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable

from furnisync.clock import Clock
from furnisync.download.check import judge, wants_less
from furnisync.download.curl import Answer, CurlLoop, Transfer
from furnisync.download.job import DownloadLimits, ImageJob, Outcome, Verdict
from furnisync.download.rate_limiter import BackOff, Pace
from furnisync.download.url_policy import refusal, shown_host
from furnisync.http.network import DIRECT, Network
from furnisync.store.folder import Store

__all__ = [
    "DownloadLimits",
    "Downloader",
    "ImageJob",
    "Outcome",
    "Verdict",
    "download_batch",
]

log = logging.getLogger("furnisync.download")

MAX_REDIRECTS = 3
UNREACHABLE_IN_A_ROW = 8
"""So many in a row without a way to the server: the line is down, not the images; all pause."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Downloader:
    """Downloads what is submitted, within limits; for use from one thread.

    Attributes:
        waiting: jobs that were submitted and not begun.
        active: transfers under way.
        paused_until: unix time (seconds) until which nothing new begins; None where not paused.
        pause_reason: why; None where not paused.
    """

    def __init__(
        self,
        store: Store,
        limits: DownloadLimits,
        clock: Clock,
        network: Network = DIRECT,
    ) -> None:
        self._network = network
        self._store = store
        self._limits = limits
        self._pace = Pace(limits.per_second, clock)
        self._back_off = BackOff(clock)
        self._queue: deque[ImageJob] = deque()
        self._loop = CurlLoop(limits.connections)
        self._idle: list[Transfer] = []
        self._unreachable = 0

    @property
    def waiting(self) -> int:
        """Jobs that were submitted and not begun."""
        return len(self._queue)

    @property
    def active(self) -> int:
        """Transfers under way."""
        return self._loop.active

    @property
    def paused_until(self) -> float | None:
        """Unix time (seconds) until which nothing new begins; None where not paused."""
        return self._back_off.paused_until

    @property
    def pause_reason(self) -> str | None:
        """Why it is paused, in words; None where it is not."""
        return self._back_off.reason

    def submit(self, jobs: Iterable[ImageJob]) -> None:
        """Queue jobs; a few thousand at most, as the queue is in memory."""
        self._queue.extend(jobs)

    def withdraw(self) -> list[ImageJob]:
        """Take back the jobs that were not begun."""
        jobs = list(self._queue)
        self._queue.clear()
        return jobs

    def poll(self, timeout_s: float) -> list[Outcome]:
        """Move all transfers on; return what ended as soon as anything did.

        Waits for at most `timeout_s`, also where there is nothing to do. An outcome `done` is
        stored before it is returned.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            outcomes = self._begin()
            left = deadline - time.monotonic()
            wait = 0.0 if outcomes else min(left, self._wait_s())
            outcomes += self._drive(wait)
            if outcomes or left <= 0:
                return outcomes

    def drain(self, timeout_s: float) -> list[Outcome]:
        """Finish what is under way, begin nothing new, drop the queue.

        What is not finished after `timeout_s` is broken off. Jobs dropped or broken off are not
        answered: they are as if never submitted.
        """
        self._queue.clear()
        outcomes: list[Outcome] = []
        deadline = time.monotonic() + timeout_s
        while self._loop.active and (left := deadline - time.monotonic()) > 0:
            outcomes += self._drive(left)
        self._break_off()
        return outcomes

    def close(self) -> None:
        """Break off what is under way and close all connections."""
        self._queue.clear()
        self._break_off()
        self._loop.close()
        for transfer in self._idle:
            transfer.close()
        self._idle.clear()

    def _begin(self) -> list[Outcome]:
        """Begin as many as connections, pace and back-off allow; answer what may not be asked."""
        refused: list[Outcome] = []
        if self._back_off.paused_s:
            return refused
        share, allowed = self._back_off.share, self._allowed()
        while self._queue and self._loop.active < allowed:
            job = self._queue[0]
            if reason := refusal(job.url, self._limits.allowed_hosts):
                refused.append(Outcome(job, "bad", reason))
            elif self._pace.take(share):
                self._start(job)
            else:
                break
            self._queue.popleft()
        return refused

    def _start(self, job: ImageJob) -> None:
        transfer = self._idle.pop() if self._idle else Transfer(self._network, self._limits)
        transfer.take(job)
        self._loop.begin(transfer)

    def _allowed(self) -> int:
        """Transfers that may be under way now."""
        return max(1, int(self._limits.connections * self._back_off.share))

    def _wait_s(self) -> float:
        """Seconds until something may begin; endless where only an answer can change that."""
        if not self._queue or self._loop.active >= self._allowed():
            return float("inf")
        return max(self._back_off.paused_s, self._pace.wait_s(self._back_off.share))

    def _drive(self, timeout_s: float) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for transfer, answer in self._loop.drive(timeout_s):
            outcome = self._end(transfer, answer)
            if outcome is not None:
                self._idle.append(transfer)
                outcomes.append(outcome)
        return outcomes

    def _end(self, transfer: Transfer, answer: Answer) -> Outcome | None:
        """Judge an answer; None where it was a redirect and the job goes on."""
        self._feel(answer, transfer.job)
        if answer.status in _REDIRECTS:
            return self._redirect(transfer, answer.location)
        return judge(transfer.job, answer, self._store, self._limits)

    def _redirect(self, transfer: Transfer, target: str | None) -> Outcome | None:
        """Go where we are sent, if it is one of our hosts, and not for ever."""
        if target is None:
            return Outcome(transfer.job, "failed", "redirect without a target")
        if refusal(target, self._limits.allowed_hosts):
            return Outcome(transfer.job, "bad", f"redirect to {shown_host(target)} refused")
        if transfer.redirects == MAX_REDIRECTS:
            return Outcome(transfer.job, "bad", f"redirected more than {MAX_REDIRECTS} times")
        transfer.follow(target)
        self._loop.begin(transfer)
        return None

    def _feel(self, answer: Answer, job: ImageJob) -> None:
        """Let an answer slow all transfers down, or speed them up again."""
        if wants_less(answer):
            self._back_off.refused(f"{answer.status} from the image server", answer.retry_after_s)
        elif answer.failure is not None and answer.failure.unreachable:
            self._unreachable += 1
            if self._unreachable >= UNREACHABLE_IN_A_ROW:
                reason = f"no way to {shown_host(job.url)} ({answer.failure.reason})"
                if self._unreachable == UNREACHABLE_IN_A_ROW:
                    log.warning("downloads pause: %s; they try again by themselves", reason)
                self._back_off.refused(reason, None)
            return
        elif answer.status == 200 and answer.failure is None:
            self._back_off.answered()
        self._unreachable = 0

    def _break_off(self) -> None:
        self._idle.extend(self._loop.abort())


def download_batch(
    jobs: Iterable[ImageJob],
    store: Store,
    limits: DownloadLimits,
    clock: Clock,
    network: Network = DIRECT,
) -> list[Outcome]:
    """Download a batch: one outcome for each job, in any order.

    Waits as long as the server asks it to (see `BackOff`).
    """
    downloader = Downloader(store, limits, clock, network)
    try:
        downloader.submit(jobs)
        outcomes: list[Outcome] = []
        while downloader.waiting or downloader.active:
            outcomes += downloader.poll(1.0)
    finally:
        downloader.close()
    return outcomes
