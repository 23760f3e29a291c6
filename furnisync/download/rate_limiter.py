"""How fast to begin transfers: an even rate, and one back-off for all when the server asks."""

from furnisync.clock import Clock

__all__ = ["BackOff", "RateLimiter"]

BURST_S = 0.1
"""This much of a delay may be caught up, so that a late caller loses no speed."""

LONGEST_ASKED_PAUSE_S = 900.0
"""The longest pause, however long a `retry-after` is."""
LONGEST_OWN_PAUSE_S = 60.0
LEAST_SHARE = 1 / 16
ANSWERS_TO_RECOVER = 200
"""Good responses in a row that raise the speed from nothing to full."""
ANSWERS_TO_FORGET = 25
"""Good responses in a row after which the next own pause is 1 s again."""


class RateLimiter:
    """Spreads starts evenly: `per_second` of them, never more than 0.1 s worth at once."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._per_second = per_second
        self._clock = clock
        self._credit = 1.0
        self._seen = clock.monotonic()

    def take(self, share: float = 1.0) -> bool:
        """Whether one transfer may begin now, at this share of the full speed; it counts then."""
        if not self._per_second:
            return True
        self._earn(share)
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    def wait_s(self, share: float = 1.0) -> float:
        """Seconds until `take` allows one; 0 where it would now."""
        if not self._per_second:
            return 0.0
        self._earn(share)
        return max(0.0, 1.0 - self._credit) / (self._per_second * share)

    def _earn(self, share: float) -> None:
        now = self._clock.monotonic()
        earned = max(0.0, now - self._seen) * self._per_second * share
        self._seen = now
        self._credit = min(self._credit + earned, max(1.0, self._per_second * BURST_S))


class BackOff:
    """One for all transfers: one refusal pauses all, then the speed rises slowly.

    A pause is as long as the server asked (15 minutes at most), or grows from 1 to 60 s where it
    named no time. Afterwards the speed is `share` of the full one: each pause halves it (down to a
    sixteenth), some 100 good responses make it full again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: float | None = None
        self._pauses = 0
        self._good = 0
        self._reason: str | None = None
        self.share = 1.0

    @property
    def paused_s(self) -> float:
        """Seconds until the pause ends; 0 where there is none."""
        if self._until is None:
            return 0.0
        left = self._until - self._clock.monotonic()
        if left <= 0:
            self._until = self._reason = None
            return 0.0
        return left

    @property
    def paused_until(self) -> float | None:
        """Unix time at which the pause ends; None where there is none."""
        left = self.paused_s
        return self._clock.now() + left if left else None

    @property
    def reason(self) -> str | None:
        """Why it is paused; None where it is not."""
        return self._reason if self.paused_s else None

    def pause(self, reason: str, asked_s: float | None) -> None:
        """Pause all transfers.

        Args:
            reason: for a person.
            asked_s: the server's `retry-after` in seconds; None where it named none.
        """
        left = self.paused_s
        self._good = 0
        if not left:
            self.share = max(LEAST_SHARE, self.share / 2)
        if asked_s:
            pause = min(asked_s, LONGEST_ASKED_PAUSE_S)
        elif left:
            # Begun before the pause and refused as well: nothing new.
            return
        else:
            pause = min(2.0**self._pauses, LONGEST_OWN_PAUSE_S)
            self._pauses = min(self._pauses + 1, 6)
        if pause > left:
            self._until = self._clock.monotonic() + pause
            self._reason = reason

    def record_success(self) -> None:
        """Count a good response."""
        if self.paused_s:
            return
        self._good += 1
        if self.share < 1.0:
            self.share = min(1.0, self.share + 1 / ANSWERS_TO_RECOVER)
        if self._good >= ANSWERS_TO_FORGET:
            self._pauses = 0
