"""From an answer to a verdict: what was it, is it stored, is another try worth while?"""

import hashlib
import re

from furnisync.download.curl import Answer
from furnisync.download.job import DownloadLimits, ImageJob, Outcome, Verdict
from furnisync.store.folder import NotStored, Store
from furnisync.store.image_format import NotAnImage, inspect_image

__all__ = ["judge", "wants_less"]


def wants_less(answer: Answer) -> bool:
    """Whether the server asked all of us to slow down."""
    return answer.status in (429, 503)


def judge(job: ImageJob, answer: Answer, store: Store, limits: DownloadLimits) -> Outcome:
    """Check an answer (no redirect) and store what it brought."""
    if answer.status in (0, 200):
        if answer.failure is not None:
            verdict: Verdict = "bad" if answer.failure.overrun else "failed"
            return Outcome(job, verdict, answer.failure.reason)
        return _keep(job, answer.body, store, limits)
    # A status says all, even where the page that came with it was broken off.
    verdict = "gone" if answer.status in (404, 410) else "failed"
    return Outcome(job, verdict, _status_reason(answer), retry_after_s=answer.retry_after_s)


def _keep(job: ImageJob, body: bytes, store: Store, limits: DownloadLimits) -> Outcome:
    if not body:
        return Outcome(job, "failed", "empty body")
    try:
        picture = inspect_image(body, limits.max_pixels)
        file = store.put(job.listing_id, job.image_id, picture.extension, body, job.held)
    except NotAnImage as error:
        return Outcome(job, "failed" if error.truncated else "bad", error.reason)
    except NotStored as error:
        return Outcome(job, "failed", str(error))
    return Outcome(
        job,
        "done",
        extension=picture.extension,
        size_bytes=len(body),
        width=picture.width,
        height=picture.height,
        sha256=hashlib.sha256(body).digest(),
        file=file,
    )


def _status_reason(answer: Answer) -> str:
    """The status, with the server's words where it refused us."""
    words = ""
    if answer.status in (401, 403):
        text = re.sub(rb"<[^>]*>|[^ -~]", b" ", answer.body[:2000]).decode("ascii")
        words = " ".join(text.split())[:100]
    return f"{answer.status}: {words}" if words else str(answer.status)
