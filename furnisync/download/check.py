"""From an answer to a verdict: what was it, is it stored, is another try worth while?"""

import hashlib
import re

import pycurl

from furnisync.download.curl import Answer
from furnisync.download.job import DownloadLimits, ImageJob, Outcome, Verdict
from furnisync.store.folder import NotStored, Store
from furnisync.store.image_format import NotAnImage, inspect_image

__all__ = ["judge", "unreachable", "wants_less"]

_NO_WAY = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_PROXY,
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
    }
)
_CONNECTING = ("Connection time", "Failed to connect", "Resolving timed out")

_NAMES = {
    pycurl.E_COULDNT_RESOLVE_PROXY: "proxy not found",
    pycurl.E_COULDNT_RESOLVE_HOST: "host not found",
    pycurl.E_COULDNT_CONNECT: "no connection",
    pycurl.E_SSL_CONNECT_ERROR: "TLS failed",
    pycurl.E_PEER_FAILED_VERIFICATION: "certificate refused",
    pycurl.E_GOT_NOTHING: "connection closed without an answer",
    pycurl.E_RECV_ERROR: "connection broken",
    pycurl.E_SEND_ERROR: "connection broken",
}


def unreachable(answer: Answer) -> bool:
    """Whether there was no way to the server at all, which says nothing about the image."""
    return answer.error in _NO_WAY or _connecting_timed_out(answer)


def _connecting_timed_out(answer: Answer) -> bool:
    return answer.error == pycurl.E_OPERATION_TIMEDOUT and answer.message.startswith(_CONNECTING)


def wants_less(answer: Answer) -> bool:
    """Whether the server asked all of us to slow down."""
    return answer.status in (429, 503)


def judge(job: ImageJob, answer: Answer, store: Store, limits: DownloadLimits) -> Outcome:
    """Check an answer (no redirect) and store what it brought."""
    if answer.status in (0, 200):
        if answer.overrun:
            return Outcome(job, "bad", f"larger than {limits.max_bytes:,} bytes")
        if answer.error:
            return Outcome(job, "failed", _error_reason(answer, limits))
        return _keep(job, answer.body, store, limits)
    # A status says all, even where the page that came with it was broken off.
    verdict: Verdict = "gone" if answer.status in (404, 410) else "failed"
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


def _error_reason(answer: Answer, limits: DownloadLimits) -> str:
    """Curl's error, in words that stay the same for the same cause."""
    if answer.error == pycurl.E_OPERATION_TIMEDOUT:
        if "too slow" in answer.message:
            return "stalled"
        if _connecting_timed_out(answer):
            return "connecting timed out"
        return f"timed out after {limits.timeout_s:g} s"
    received = len(answer.body)
    if answer.error == pycurl.E_PARTIAL_FILE:
        of = f" of {answer.expected_bytes:,}" if answer.expected_bytes else ""
        return f"truncated: {received:,}{of} bytes"
    name = _NAMES.get(answer.error, f"curl error {answer.error}")
    message = re.sub(r" after \d+ ms", "", answer.message)[:150]
    return f"{name}: {message}" if message else name
