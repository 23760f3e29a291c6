"""Fetches images: jobs in, outcomes out. Knows neither the API nor the catalog.

    submit --> queue --> (rate limit, back-off) --> transfers --> check --> store --> poll

Nothing here reads a key, so none can be sent. Urls are checked before a connection is made, those
of redirects too. Bodies are in memory only during their transfer: `connections * max_bytes` at
most, and in practice a few megabytes.
"""

import logging
import time
from collections import deque
from collections.abc import Iterable

from furnisync.clock import Clock
from furnisync.download.check import asks_to_slow_down, check_response
from furnisync.download.curl import CurlLoop, ImageResponse, Transfer
from furnisync.download.limits import DownloadLimits
from furnisync.download.rate_limiter import BackOff, RateLimiter
from furnisync.download.url_policy import refusal, shown_host
from furnisync.http.network import DIRECT, Network
from furnisync.image_job import ImageJob, ImageOutcome, ImageReason, ReasonCode
from furnisync.store import Store

__all__ = ["Downloader", "download_batch"]

log = logging.getLogger("furnisync.download")

MAX_REDIRECTS = 3
UNREACHABLE_IN_A_ROW = 8
"""So many in a row could not reach the server: the network is down, not the images; all pause."""
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
        self._rate = RateLimiter(limits.per_second, clock)
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
        """Why it is paused; None where it is not."""
        return self._back_off.reason

    def submit(self, jobs: Iterable[ImageJob]) -> None:
        """Queue jobs; a few thousand at most, as the queue is in memory."""
        self._queue.extend(jobs)

    def withdraw(self) -> list[ImageJob]:
        """Take back the jobs that were not begun."""
        jobs = list(self._queue)
        self._queue.clear()
        return jobs

    def poll(self, timeout_s: float) -> list[ImageOutcome]:
        """Advance all transfers; return what ended as soon as anything did.

        Waits for at most `timeout_s`, also where there is nothing to do. An image that is `done`
        is stored before its outcome is returned.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            outcomes = self._begin()
            left = deadline - time.monotonic()
            wait = 0.0 if outcomes else min(left, self._wait_s())
            outcomes += self._drive(wait)
            if outcomes or left <= 0:
                return outcomes

    def drain(self, timeout_s: float) -> list[ImageOutcome]:
        """Finish the transfers under way, begin nothing new, drop the queue.

        What is not finished after `timeout_s` is aborted. Jobs that were dropped or aborted have
        no outcome: they are as if never submitted.
        """
        self._queue.clear()
        outcomes: list[ImageOutcome] = []
        deadline = time.monotonic() + timeout_s
        while self._loop.active and (left := deadline - time.monotonic()) > 0:
            outcomes += self._drive(left)
        self._abort()
        return outcomes

    def close(self) -> None:
        """Abort the transfers under way and close all connections."""
        self._queue.clear()
        self._abort()
        self._loop.close()
        for transfer in self._idle:
            transfer.close()
        self._idle.clear()

    def _begin(self) -> list[ImageOutcome]:
        """Begin as many as the limits allow; return the jobs whose urls are refused."""
        refused: list[ImageOutcome] = []
        if self._back_off.paused_s:
            return refused
        share, allowed = self._back_off.share, self._allowed()
        while self._queue and self._loop.active < allowed:
            job = self._queue[0]
            if reason := refusal(job.url, self._limits.allowed_hosts):
                refused.append(ImageOutcome(job, "bad", reason))
            elif self._rate.take(share):
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
        """Seconds until something may begin; endless where only a response can change that."""
        if not self._queue or self._loop.active >= self._allowed():
            return float("inf")
        return max(self._back_off.paused_s, self._rate.wait_s(self._back_off.share))

    def _drive(self, timeout_s: float) -> list[ImageOutcome]:
        outcomes: list[ImageOutcome] = []
        for transfer, response in self._loop.drive(timeout_s):
            outcome = self._end(transfer, response)
            if outcome is not None:
                self._idle.append(transfer)
                outcomes.append(outcome)
        return outcomes

    def _end(self, transfer: Transfer, response: ImageResponse) -> ImageOutcome | None:
        """Check a response; None where it was a redirect that is followed."""
        self._adapt(response, transfer.job)
        if response.status in _REDIRECTS:
            return self._redirect(transfer, response.location)
        return check_response(transfer.job, response, self._store, self._limits)

    def _redirect(self, transfer: Transfer, target: str | None) -> ImageOutcome | None:
        """Follow a redirect to one of our hosts, a few times at most."""
        if target is None:
            return ImageOutcome(
                transfer.job, "failed", ImageReason(ReasonCode.REDIRECT_WITHOUT_TARGET)
            )
        if refusal(target, self._limits.allowed_hosts):
            reason = ImageReason(ReasonCode.REDIRECT_REFUSED, shown_host(target))
            return ImageOutcome(transfer.job, "bad", reason)
        if transfer.redirects == MAX_REDIRECTS:
            reason = ImageReason(ReasonCode.TOO_MANY_REDIRECTS, str(MAX_REDIRECTS))
            return ImageOutcome(transfer.job, "bad", reason)
        transfer.follow(target)
        self._loop.begin(transfer)
        return None

    def _adapt(self, response: ImageResponse, job: ImageJob) -> None:
        """Let a response slow all transfers down, or speed them up again."""
        failure = response.failure
        if asks_to_slow_down(response):
            reason = f"{response.status} from the image server"
            self._back_off.pause(reason, response.retry_after_s)
        elif failure is not None and failure.unreachable:
            self._unreachable += 1
            if self._unreachable >= UNREACHABLE_IN_A_ROW:
                reason = f"no way to {shown_host(job.url)} ({failure.reason})"
                self._back_off.pause(reason, None)
            return
        elif response.status == 200 and failure is None:
            self._back_off.record_success()
        self._unreachable = 0

    def _abort(self) -> None:
        self._idle.extend(self._loop.abort())


def download_batch(
    jobs: Iterable[ImageJob],
    store: Store,
    limits: DownloadLimits,
    clock: Clock,
    network: Network = DIRECT,
) -> list[ImageOutcome]:
    """Download a batch: one outcome for each job, in any order.

    Waits as long as the server asks (see `BackOff`).
    """
    downloader = Downloader(store, limits, clock, network)
    try:
        downloader.submit(jobs)
        outcomes: list[ImageOutcome] = []
        while downloader.waiting or downloader.active:
            outcomes += downloader.poll(1.0)
    finally:
        downloader.close()
    return outcomes
