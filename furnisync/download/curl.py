"""Image transfers on libcurl: one exchange for each transfer, one loop drives them all.

`perform` with `select`, and not `socket_action`: at our few connections it takes 5 us an image less
(no callbacks for each socket) and there is no table of sockets to keep. Its limit of 1,024
descriptors is far off; past it a wait ends after `LONGEST_WAIT_S`, so that all continues, slower.
"""

import time

import msgspec
import pycurl

from furnisync.download.limits import DownloadLimits
from furnisync.http.exchange import Exchange, ExchangeLimits, Failure
from furnisync.http.headers import read_retry_after
from furnisync.http.network import Network
from furnisync.image_job import ImageJob

__all__ = ["CurlLoop", "ImageResponse", "Transfer"]

STALL_BYTES_PER_S = 100
"""Slower than this for `stall_s` is a stall."""
LONGEST_WAIT_S = 0.25
"""The longest wait, in case a descriptor is past what `select` can watch."""
BLIND_WAIT_S = 0.005
"""Between two polls where curl has no socket to wait for."""


class ImageResponse(msgspec.Struct, frozen=True):
    """How a transfer ended.

    Attributes:
        status: HTTP status; 0 where none came.
        body: what was received, maybe only a part.
        failure: why the response is not whole; None where it is.
        retry_after_s: how long the server asks us to wait, in seconds; None where it does not.
        location: absolute target of a redirect; None where there is none.
    """

    status: int
    body: bytes
    failure: Failure | None
    retry_after_s: float | None
    location: str | None


class Transfer(Exchange):
    """An exchange that fetches one image after another.

    Attributes:
        job: what it fetches now.
        redirects: how many it followed for this job.
    """

    job: ImageJob
    redirects: int

    def __init__(self, network: Network, limits: DownloadLimits) -> None:
        super().__init__(
            network, ExchangeLimits(limits.max_bytes, limits.timeout_s, limits.user_agent)
        )
        self.curl.setopt(pycurl.LOW_SPEED_LIMIT, STALL_BYTES_PER_S)
        self.curl.setopt(pycurl.LOW_SPEED_TIME, limits.stall_s)

    def take(self, job: ImageJob) -> None:
        """Prepare a job; the caller has checked its url."""
        self.job = job
        self.redirects = 0
        self.aim(job.url)

    def follow(self, url: str) -> None:
        """Prepare a redirect's target; the caller has checked it."""
        self.redirects += 1
        self.aim(url)

    def response(self, error: int, message: str) -> ImageResponse:
        """Describe a transfer that the loop has finished, and release its body."""
        status, failure = self.status, self.failure(error, message) if error else None
        if status == 200 and failure is None:
            return ImageResponse(status, self.take_body(), None, None, None)
        retry_after_s = read_retry_after(self.headers(), time.time())
        return ImageResponse(status, self.take_body(), failure, retry_after_s, self.location)


class CurlLoop:
    """Drives transfers; keeps connections alive between them."""

    def __init__(self, connections: int) -> None:
        self._running: dict[pycurl.Curl, Transfer] = {}
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, connections)

    @property
    def active(self) -> int:
        """Transfers under way."""
        return len(self._running)

    def begin(self, transfer: Transfer) -> None:
        """Start a transfer that was prepared."""
        self._running[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)

    def abort(self) -> list[Transfer]:
        """End all transfers unfinished."""
        aborted = list(self._running.values())
        for transfer in aborted:
            self._multi.remove_handle(transfer.curl)
        self._running.clear()
        return aborted

    def drive(self, timeout_s: float) -> list[tuple[Transfer, ImageResponse]]:
        """Wait for at most `timeout_s`, advance all transfers, return those that ended."""
        self._wait(timeout_s)
        if not self._running:
            return []
        self._multi.perform()
        return self._finished()

    def close(self) -> None:
        """Close all connections; the transfers' handles are the caller's."""
        self.abort()
        self._multi.close()

    def _wait(self, timeout_s: float) -> None:
        if not self._running:
            if timeout_s > 0:
                time.sleep(timeout_s)
            return
        due_ms = self._multi.timeout()
        wait = min(timeout_s, LONGEST_WAIT_S)
        if due_ms >= 0:
            wait = min(wait, due_ms / 1000)
        if wait <= 0:
            return
        began = time.monotonic()
        if self._multi.select(wait) == 0 and time.monotonic() - began < wait / 2:
            # No socket to wait for yet (a name is being looked up): select came back at once.
            time.sleep(min(wait, BLIND_WAIT_S))

    def _finished(self) -> list[tuple[Transfer, ImageResponse]]:
        ended: list[tuple[Transfer, ImageResponse]] = []
        while True:
            queued, good, wrong = self._multi.info_read()
            for curl, error, message in (*((curl, 0, "") for curl in good), *wrong):
                self._multi.remove_handle(curl)
                transfer = self._running.pop(curl)
                ended.append((transfer, transfer.response(error, message)))
            if not queued:
                return ended
