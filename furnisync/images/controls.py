"""Control images: does the image server still send what it sent? Nothing is stored."""

import random
from collections.abc import Callable
from concurrent.futures import Future
from typing import BinaryIO

import msgspec

from furnisync.catalog import image_queue
from furnisync.clock import Clock
from furnisync.config import ImageSize
from furnisync.download.downloader import Downloader
from furnisync.download.limits import DownloadLimits
from furnisync.download.sizes import url_of_size
from furnisync.http.network import Network
from furnisync.image_job import ImageJob, ImageOutcome
from furnisync.sqlite.writer import Writer
from furnisync.store import StoredFile

__all__ = ["Controls", "fetch_unstored"]

TRIED = 3
"""A seller may have deleted or replaced one or two."""
LONGEST_S = 15.0
"""A control that takes longer has failed."""
AMONG = 300
"""They are chosen among the last so many that came, whose urls most likely still work."""


class _Nowhere:
    """A store that keeps nothing."""

    def put(self, *_: object) -> str:
        """Keep nothing."""
        return ""

    def open(self, name: str) -> BinaryIO:
        """There is nothing."""
        raise FileNotFoundError(name)

    def stat(self, name: str) -> StoredFile | None:  # noqa: ARG002 -- the protocol's
        """There is nothing."""
        return None

    def remove(self, name: str) -> bool:  # noqa: ARG002 -- the protocol's
        """There is nothing."""
        return False


class Controls:
    """Fetches images that we hold; for use from the download worker's thread."""

    def __init__(
        self,
        writer: Writer,
        size: ImageSize,
        limits: DownloadLimits,
        clock: Clock,
        network: Network,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make controls; `writer` is of the catalog, a run that `is_stopping` waits for nothing."""
        self._writer = writer
        self._size: ImageSize = size
        self._limits = msgspec.structs.replace(limits, timeout_s=min(limits.timeout_s, LONGEST_S))
        self._is_stopping = is_stopping
        self._clock = clock
        self._network = network

    def fetch(self, but_not: bytes | None) -> bool | None:
        """Fetch up to three images that we hold, none with these bytes (sha256).

        Returns:
            whether one came as we hold it; None if we hold none.
        """
        found: Future[list[ImageJob]] = self._writer.submit(
            image_queue.recent_held, self._size, but_not, AMONG
        )
        jobs = found.result()
        if not jobs:
            return None
        chosen = random.sample(jobs, min(TRIED, len(jobs)))
        return any(self._comes(job) for job in chosen)

    def _comes(self, job: ImageJob) -> bool:
        url = url_of_size(job.url, self._size)
        limits, clock, network = self._limits, self._clock, self._network
        outcome = fetch_unstored(url, limits, clock, network, self._is_stopping)
        return outcome is not None and outcome.sha256 == job.held


def fetch_unstored(
    url: str,
    limits: DownloadLimits,
    clock: Clock,
    network: Network,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ImageOutcome | None:
    """Fetch an image and keep nothing; None if the server asks for a pause, or we stop."""
    downloader = Downloader(_Nowhere(), limits, clock, network)
    try:
        downloader.submit([ImageJob(0, 0, url)])
        while downloader.active or downloader.waiting:
            for outcome in downloader.poll(0.2):
                return outcome
            if downloader.paused_until is not None or is_stopping():
                break
    finally:
        downloader.close()
    return None
