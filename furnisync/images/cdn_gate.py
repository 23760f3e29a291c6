r"""Is the image server broken, or only single images? No image loses a try before that is decided.

    outcomes --> sound ----------------------------> recorded, with all that waited
             \-> may be the server's fault --> wait --> a control image is fetched
                                                         |-- sound: recorded, the images' fault
                                                         |-- else: an outage, as never tried

The control is an image that we hold. It is fetched when images of several listings fail in a row
in the same way, or bring the same bytes, and when nothing else is left to do. During an outage it
is also the probe. A home that holds no image yet probes with one that is due.
"""

import logging
from collections.abc import Callable, Iterable

from furnisync.circuit_breaker import SUSPECT_AFTER, CircuitBreaker, Outage
from furnisync.clock import Clock
from furnisync.image_job import ImageOutcome, ReasonCode

__all__ = ["CdnGate"]

log = logging.getLogger("furnisync.download")

IMAGE_SERVER = "the image server"
SAME_BYTES = "same_bytes"
LONGEST_WAIT_S = 120.0
_SAME = "it sends the same picture for images of different listings"
_KINDS = {
    ReasonCode.TRANSFER_FAILED: "unreachable",
    ReasonCode.EMPTY_BODY: "not_an_image",
    ReasonCode.TRUNCATED: "not_an_image",
    ReasonCode.NOT_AN_IMAGE: "not_an_image",
    ReasonCode.TOO_FEW_PIXELS: "not_an_image",
    ReasonCode.REDIRECT_REFUSED: "redirected",
    ReasonCode.REDIRECT_WITHOUT_TARGET: "redirected",
    ReasonCode.TOO_MANY_REDIRECTS: "redirected",
}
"""Reasons that may be the server's; for others no server was asked, or the image is too large."""

FetchControls = Callable[[bytes | None], bool | None]
"""Fetches images that we hold, none with these bytes (sha256): whether one came as we hold it. None
where we hold no such image."""


class CdnGate:
    """Sorts outcomes; for use from the download worker's thread.

    Attributes:
        breaker: of the image server.
        dropped: outcomes that are to be forgotten, as if their images had never been tried.
    """

    def __init__(self, clock: Clock, fetch_controls: FetchControls) -> None:
        self.breaker = CircuitBreaker(IMAGE_SERVER, clock, longest_wait_s=LONGEST_WAIT_S)
        self.dropped: list[ImageOutcome] = []
        self._fetch_controls = fetch_controls
        self._waiting: list[ImageOutcome] = []
        self._alike: list[ImageOutcome] = []
        self._placeholder: bytes | None = None

    @property
    def outage(self) -> Outage | None:
        """The spell; None while the server works."""
        return self.breaker.outage

    @property
    def undecided(self) -> bool:
        """Whether outcomes wait for a decision."""
        return bool(self._waiting)

    def may_claim(self) -> bool:
        """Whether images may be fetched now; during an outage a single one, as the probe."""
        if self.outage is None:
            return True
        if not self.breaker.may_send():
            return False
        sound = self._fetch_controls(self._placeholder)
        if sound is None:
            return True
        if sound:
            self._placeholder = None
            self.breaker.record_success()
            return True
        self.breaker.open(self.outage.kind, self.outage.reason)
        return False

    def sort(self, outcomes: Iterable[ImageOutcome]) -> list[ImageOutcome]:
        """Take outcomes in the order in which they came; returns those to record now."""
        recorded: list[ImageOutcome] = []
        for outcome in outcomes:
            if outcome.result == "done":
                recorded += self._take_done(outcome)
            elif (kind := _kind_of(outcome)) is None:
                recorded.append(outcome)
            else:
                recorded += self._take_miss(outcome, kind)
        return recorded

    def settle(self) -> list[ImageOutcome]:
        """Nothing else is to come: decide about what waits; returns what to record."""
        misses = [one for one in self._waiting if one.result != "done"]
        if misses and self._fetch_controls(None) is False:
            return self._open(_kind_of(misses[-1]) or SAME_BYTES)
        return self._blame_images()

    def leave(self) -> list[ImageOutcome]:
        """The run ends: returns what came soundly; the rest is as never tried."""
        return [one for one in self._take_waiting() if one.result == "done"]

    def _take_done(self, outcome: ImageOutcome) -> list[ImageOutcome]:
        """An image came. It waits for the next one, as both may be the same placeholder."""
        if self._placeholder is not None and self._placeholder == outcome.sha256:
            self.breaker.record_failure(outcome.job.listing_id, SAME_BYTES, _SAME)
            self.dropped.append(outcome)
            return []
        if self.outage is not None:
            self.breaker.record_success()
        recorded = []
        if self._alike and self._alike[-1].sha256 != outcome.sha256:
            recorded = self._blame_images()
            self._alike, self._placeholder = [], None
        self._alike.append(outcome)
        self._waiting.append(outcome)
        if not self._are_suspect():
            return recorded
        if self._fetch_controls(outcome.sha256) is True:
            return self._blame_images()
        self._placeholder = outcome.sha256
        return self._open(SAME_BYTES)

    def _are_suspect(self) -> bool:
        """Whether the last images are the same picture for many listings."""
        return len({one.job.listing_id for one in self._alike}) >= SUSPECT_AFTER

    def _take_miss(self, outcome: ImageOutcome, kind: str) -> list[ImageOutcome]:
        self._waiting.append(outcome)
        reason = outcome.reason.words if outcome.reason else kind
        if self.breaker.record_failure(outcome.job.listing_id, kind, reason):
            if self.outage is not None:
                self.dropped += self._take_waiting()
            elif self._fetch_controls(None) is True:
                return self._blame_images()
            else:
                return self._open(kind)
        return []

    def _open(self, kind: str) -> list[ImageOutcome]:
        """An outage begins; returns what came soundly before it."""
        last = self._waiting[-1]
        reason = _SAME
        if kind != SAME_BYTES and last.reason is not None:
            reason = last.reason.words
        self.breaker.open(kind, reason)
        waiting, self._alike = self._take_waiting(), []
        sound = [one for one in waiting if one.result == "done" and kind != SAME_BYTES]
        self.dropped += [one for one in waiting if one not in sound]
        return sound

    def _blame_images(self) -> list[ImageOutcome]:
        """The server works, so the images are at fault: each loses a try."""
        self.breaker.record_success()
        self._alike = []
        return self._take_waiting()

    def _take_waiting(self) -> list[ImageOutcome]:
        waiting, self._waiting = self._waiting, []
        return waiting


def _kind_of(outcome: ImageOutcome) -> str | None:
    """The kind of failure, if it may be the server's; None otherwise."""
    if outcome.reason is None:
        return None
    if outcome.reason.code is not ReasonCode.HTTP_STATUS:
        return _KINDS.get(outcome.reason.code)
    status = outcome.reason.detail[:3]
    if status in ("404", "410"):
        return "gone"
    return "server_error" if status >= "500" else "refused"
