"""One item or the whole thing? A circuit breaker decides it from recent outcomes.

An item is what a request is for: a shop, a listing, an image. An upstream is who answers: the
API, one kind of its calls, the image server. A failure says little about which of them is broken.
The same failure of many different items in a row says that it is the upstream.

    closed ---- the same failure of SUSPECT_AFTER different items in a row: suspect
    suspect --- something known to be sound comes as well ---------> closed: the items are broken
    suspect --- else --------------------------------------------> open
    open ------ its wait is over: one request is the probe --------> half open
    half open - the probe fails: a longer wait -----------------> open
    half open - the probe succeeds ------------------------------> closed

The caller asks `may_send` before each request and reports how it ended. While the breaker is open
no item may lose a try: the caller keeps what failed and sends it again.
"""

import logging
from collections.abc import Callable, Hashable

import msgspec

from furnisync.clock import Clock

__all__ = ["SUSPECT_AFTER", "CircuitBreaker", "Outage"]

log = logging.getLogger("furnisync.upstream")

SUSPECT_AFTER = 5
"""Different items that fail in a row in the same way; twice as many in whatever way."""
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0


class Outage(msgspec.Struct, frozen=True):
    """A spell in which an upstream is broken.

    Attributes:
        upstream: who is broken, as a person calls it: "Etsy's API", "the image server".
        kind: a code; the same for the same kind of failure.
        reason: what happened last, in words.
        since: when the first of its failures came (unix seconds).
        next_probe: when one request will try again (unix seconds).
    """

    upstream: str
    kind: str
    reason: str
    since: float
    next_probe: float


class CircuitBreaker:
    """Decides for one upstream; for use from one thread.

    Attributes:
        outage: the spell; None while the upstream works.
    """

    def __init__(
        self,
        upstream: str,
        clock: Clock,
        on_change: Callable[[Outage | None], None] = lambda _: None,
        *,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        """Make a closed breaker.

        Args:
            upstream: its name in messages.
            clock: the time.
            on_change: gets each new state of the outage, None at its end.
            longest_wait_s: between two probes.
        """
        self._upstream = upstream
        self._clock = clock
        self._on_change = on_change
        self._longest_wait_s = longest_wait_s
        self._failed: dict[Hashable, str] = {}
        self._since: tuple[float, float] | None = None
        self._wait_s = 0.0
        self._probe_mono = 0.0
        self._probing = False
        self.outage: Outage | None = None

    @property
    def failing_since_mono(self) -> float:
        """Monotonic time of the first failure in a row; endless after a success."""
        return float("inf") if self._since is None else self._since[1]

    @property
    def lasts_s(self) -> float:
        """Seconds since the first failure of the outage; 0 while the upstream works."""
        return 0.0 if self.outage is None else self._clock.monotonic() - self.failing_since_mono

    @property
    def wait_s(self) -> float:
        """Seconds until `may_send` can become true by time alone; endless during a probe."""
        if self.outage is None:
            return 0.0
        if self._probing:
            return float("inf")
        return max(0.0, self._probe_mono - self._clock.monotonic())

    def may_send(self) -> bool:
        """Whether a request may go out now. While open: only one, which is the probe then."""
        if self.outage is None:
            return True
        if self.wait_s > 0:
            return False
        self._probing = True
        return True

    def drop_probe(self) -> None:
        """The probe ended without an outcome, for example cancelled: another one may go out."""
        self._probing = False

    def record_success(self) -> None:
        """A request was answered soundly."""
        self._failed.clear()
        self._since = None
        self._wait_s = 0.0
        self._probing = False
        if self.outage is not None:
            minutes = (self._clock.now() - self.outage.since) / 60
            log.warning("%s works again after %.0f minutes", self._upstream, minutes)
            self.outage = None
            self._on_change(None)

    def record_failure(self, item: Hashable, kind: str, reason: str) -> bool:
        """A request for an item failed in a way that may be the upstream's.

        Args:
            item: for whatever the request was.
            kind: a code, the same for the same kind of failure.
            reason: in words, for a person.

        Returns:
            whether the upstream is suspect: call `open` unless something known to be sound comes.
        """
        if self.outage is not None:
            if self._probing:
                self.open(kind, reason)
            return True
        if self._since is None:
            self._since = (self._clock.now(), self._clock.monotonic())
        self._failed[item] = kind
        alike = sum(one == kind for one in self._failed.values())
        return alike >= SUSPECT_AFTER or len(self._failed) >= 2 * SUSPECT_AFTER

    def open(self, kind: str, reason: str) -> None:
        """The upstream is broken: pause, or stay paused for a longer wait."""
        now, mono = self._clock.now(), self._clock.monotonic()
        if self.outage is None:
            log.warning("%s is broken: %s; it is retried automatically", self._upstream, reason)
        self._since = self._since or (now, mono)
        self._probing = False
        self._wait_s = min(max(FIRST_WAIT_S, 2 * self._wait_s), self._longest_wait_s)
        self._probe_mono = mono + self._wait_s
        self.outage = Outage(self._upstream, kind, reason, self._since[0], now + self._wait_s)
        self._on_change(self.outage)
