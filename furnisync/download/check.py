"""From a response to an outcome: what is it, is it stored, is another try worth while?"""

import hashlib
import re

from furnisync.download.curl import ImageResponse
from furnisync.download.limits import DownloadLimits
from furnisync.image_job import ImageJob, ImageOutcome, ImageReason, ReasonCode
from furnisync.limits import BELIEVED_AFTER
from furnisync.store import NotStored, Store
from furnisync.store.image_format import NotAnImage, Picture, inspect_image

__all__ = ["asks_to_slow_down", "check_response", "stored"]


def asks_to_slow_down(response: ImageResponse) -> bool:
    """Whether the server asks for fewer requests."""
    return response.status in (429, 503)


def check_response(
    job: ImageJob, response: ImageResponse, store: Store, limits: DownloadLimits
) -> ImageOutcome:
    """Check a response (no redirect) and store the image that it brought."""
    failure = response.failure
    if response.status not in (0, 200):
        # The status is enough, even where the page that came with it was broken off.
        gone = response.status in (404, 410)
        reason = ImageReason(ReasonCode.HTTP_STATUS, _describe_status(response))
        return ImageOutcome(job, "gone" if gone else "failed", reason)
    if failure is None:
        return _keep(job, response.body, store, limits)
    if failure.overrun:
        return ImageOutcome(job, "bad", ImageReason(ReasonCode.TOO_LARGE, f"{limits.max_bytes:,}"))
    return ImageOutcome(job, "failed", ImageReason(ReasonCode.TRANSFER_FAILED, failure.reason))


def stored(job: ImageJob, picture: Picture, body: bytes, file: str) -> ImageOutcome:
    """The outcome of an image that is stored under the name `file`."""
    sha256 = hashlib.sha256(body).digest()
    return ImageOutcome(job, "done", None, file, len(body), picture.width, picture.height, sha256)


def _keep(job: ImageJob, body: bytes, store: Store, limits: DownloadLimits) -> ImageOutcome:
    if not body:
        return ImageOutcome(job, "failed", ImageReason(ReasonCode.EMPTY_BODY))
    try:
        picture = inspect_image(body, limits.max_pixels)
        if picture.width < limits.least_width and job.tries + 1 < BELIEVED_AFTER:
            size = f"{picture.width} x {picture.height}"
            return ImageOutcome(job, "failed", ImageReason(ReasonCode.TOO_FEW_PIXELS, size))
        file = store.put(job.listing_id, job.image_id, picture.extension, body, job.held)
    except NotAnImage as error:
        truncated = error.reason.code is ReasonCode.TRUNCATED
        return ImageOutcome(job, "failed" if truncated else "bad", error.reason)
    except NotStored as error:
        return ImageOutcome(job, "failed", error.reason)
    return stored(job, picture, body, file)


def _describe_status(response: ImageResponse) -> str:
    """The status, with the server's words where it refused us."""
    words = ""
    if response.status in (401, 403):
        text = re.sub(rb"<[^>]*>|[^ -~]", b" ", response.body[:2000]).decode("ascii")
        words = " ".join(text.split())[:100]
    return f"{response.status}: {words}" if words else str(response.status)
