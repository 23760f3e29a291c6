"""What goes into a download and what comes out of it: plain values, fit to cross machines."""

from typing import Literal

import msgspec

__all__ = ["DownloadLimits", "ImageJob", "Outcome", "Verdict"]

Verdict = Literal["done", "gone", "bad", "failed"]
"""`done`: stored. `gone`: 404 or 410. `bad`: an answer that is no image of ours, or an address that
we do not ask; another try soon would end the same. `failed`: worth another try."""


class ImageJob(msgspec.Struct, frozen=True):
    """One image to fetch.

    Attributes:
        url: already of the wanted size.
        held: sha256 of the file that it takes the place of; None where we hold none.
    """

    listing_id: int
    image_id: int
    url: str
    held: bytes | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of a job.

    Attributes:
        job: what was asked for.
        verdict: see `Verdict`.
        reason: why not done: a stable class, then its detail (`404`, `timed out after 60 s`,
            `not an image: HTML`, `truncated: 1,200 of 45,000 bytes`); None where done.
        extension: `jpg`, `png`, `webp` or `gif`, by the bytes and not by the url.
        size_bytes: of the stored file.
        width: in pixels.
        height: in pixels.
        sha256: of the stored bytes.
        retry_after_s: what a 429 or 503 asked us to wait, in seconds, as it said it.
        file: name of the stored file, relative to the store's root.
    """

    job: ImageJob
    verdict: Verdict
    reason: str | None = None
    extension: str | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: bytes | None = None
    retry_after_s: float | None = None
    file: str | None = None


class DownloadLimits(msgspec.Struct, frozen=True):
    """What a downloader may do.

    Attributes:
        connections: transfers at one time.
        per_second: transfers begun a second, evenly spread; 0 for no limit.
        max_bytes: a longer body is cut off and refused.
        max_pixels: an image of more pixels is refused (undecoded).
        timeout_s: for one transfer, from its beginning to its last byte.
        allowed_hosts: `host` (any port) or `host:port`, in lower case.
        user_agent: the only header that tells who asks.
        stall_s: a transfer that is as good as still for so long ends.
    """

    connections: int
    per_second: float
    max_bytes: int
    max_pixels: int
    timeout_s: float
    allowed_hosts: frozenset[str]
    user_agent: str
    stall_s: int = 20
