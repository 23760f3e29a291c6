"""Does our clock agree with Etsy's? The Date of answers decides, before anything is written.

| difference            | what happens                                                            |
| --------------------- | ----------------------------------------------------------------------- |
| under a minute        | nothing                                                                 |
| minutes, 3 in a row   | a warning, until it ends                                                |
| an hour and more      | ping is asked at once: one odd Date (a cache, a proxy) stops nothing    |
| ... and 3 pings agree | all calls wait and no time is written until a ping says it is right     |
| no Date at all        | unknown: everything continues, but nothing is purged by age             |

Between two answers the monotonic clock shows whether ours was set. If so, a ping precedes the
next time that is written.
"""

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from furnisync.clock import DAY_S, HOUR_S, WRONG_S, Clock
from furnisync.errors import ClockWrong, Terminal, Transient, UserError

log = logging.getLogger("furnisync.etsy")

OFF_S: Final = 60.0
"""From this difference on the clock is off, and a person is warned."""
NEEDED: Final = 3
"""This many readings that agree decide."""
AGREE_WITHIN_S: Final = 60.0
PROBE_EVERY_S: Final = 300.0
"""Interval of comparisons while the clock is wrong; sooner if it was set."""
LOOK_EVERY_S: Final = 1.0
DOUBT_FIRST_S: Final = 60.0
DOUBT_MOST_S: Final = 3600.0
"""After a ping has refuted an odd Date, similar Dates are ignored for this long."""


class ClockState(msgspec.Struct, frozen=True):
    """How our clock differs from Etsy's.

    Attributes:
        behind_s: seconds by which ours is behind; negative where it is ahead.
        since: when this was first noticed, by Etsy's clock (unix seconds).
    """

    behind_s: float
    since: float

    @property
    def wrong(self) -> bool:
        """Whether it is hours off, so that nothing is written with it."""
        return abs(self.behind_s) >= WRONG_S

    def __str__(self) -> str:
        size = abs(self.behind_s)
        for unit, length in (("days", 2.0 * DAY_S), ("hours", 2.0 * HOUR_S), ("minutes", 120.0)):
            if size >= length:
                words = f"{size * 2 / length:,.0f} {unit}"
                break
        else:
            words = f"{size:.0f} seconds"
        return f"{words} {'behind' if self.behind_s > 0 else 'ahead of'} Etsy's"


@dataclass(frozen=True, slots=True)
class _Anchor:
    """An instant on both of our clocks at which the wall clock was compared.

    Attributes:
        known: it was not hours off; otherwise nothing was known.
        asked: another ping would add nothing.
    """

    mono: float
    wall: float
    known: bool
    asked: bool


class ClockCheck:
    """Blocks calls and times while our clock is hours off; a `Clock` that returns Etsy's time.

    Attributes:
        state: how the clock is off; None if it agrees or nothing is known.
        patience_s: how long to wait for a wrong clock; infinite for a run that does not end.
    """

    def __init__(
        self,
        clock: Clock,
        ping: Callable[[], Awaitable[float | None]],
        tell: Callable[[ClockState | None], None],
        patience_s: float,
    ) -> None:
        """Make a check that has compared nothing yet.

        Args:
            clock: ours.
            ping: asks Etsy by how many seconds our clock is behind; None: the answer does not say.
            tell: receives each change of `state`, and the first comparison.
            patience_s: see above.
        """
        self.state: ClockState | None = None
        self.patience_s = patience_s
        self._clock = clock
        self._ping = ping
        self._tell = tell
        self._told = False
        self._anchor: _Anchor | None = None
        self._readings: deque[float] = deque(maxlen=NEEDED)
        import asyncio  # noqa: PLC0415 -- as in sqlite/writer.py: `status` reads ClockState only

        self._turn = asyncio.Lock()
        self._waits = 0
        self._wrong_mono = 0.0
        self._refuted_mono = -math.inf
        self._doubt_s = DOUBT_FIRST_S

    @property
    def is_wrong(self) -> bool:
        """Whether the clock is known to be hours off."""
        state = self.state  # read once: the download worker asks from its own thread
        return state is not None and state.wrong

    @property
    def is_known_right(self) -> bool:
        """Whether an answer showed that it is not hours off, and it was not set since then."""
        return self._stands() and self._anchor is not None and self._anchor.known

    def now(self) -> float:
        """Unix time: ours, or Etsy's if ours is known to be hours off."""
        state = self.state
        wrong = state is not None and state.wrong
        return self._clock.now() + (state.behind_s if state is not None and wrong else 0.0)

    def monotonic(self) -> float:
        """The monotonic time of our clock."""
        return self._clock.monotonic()

    async def look(self) -> None:
        """Compare now: one ping, and more only if it shows hours.

        Raises:
            Transient, Terminal, UserError: Etsy does not answer.
        """
        async with self._turn:
            await self._ask()

    async def trusted_now(self) -> float:
        """Our unix time; waits while it is hours off.

        Costs a ping if no answer was compared yet, or the clock was set since then.

        Raises:
            ClockWrong: it stayed hours off for longer than the patience.
            Transient, Terminal, UserError: Etsy does not answer.
        """
        while not self._stands():
            async with self._turn:
                if not self._stands():
                    await self._settle()
        return self._clock.now()

    async def admits(self, behind_s: float | None) -> bool:
        """Compare an answer's Date (None: it has no usable one); waits while hours off.

        Returns:
            False if it had to wait: the answer is old by then and must be requested again.

        Raises:
            As `trusted_now`.
        """
        waits = self._waits
        if behind_s is None:
            self._anchor = self._anchor or self._here(known=False, asked=False)
        elif abs(behind_s) < WRONG_S:
            self._hear(behind_s)
        if not self._must_settle(behind_s):
            return True
        async with self._turn:
            if self._waits == waits and self._must_settle(behind_s):
                await self._settle()
        return self._waits == waits

    def _must_settle(self, behind_s: float | None) -> bool:
        """Whether the clock is wrong, or a Date needs a ping (not soon after one refuted it)."""
        if self.is_wrong or behind_s is None or abs(behind_s) < WRONG_S:
            return self.is_wrong
        rests = self._clock.monotonic() - self._refuted_mono < self._doubt_s
        return not (rests and self._stands())

    # -- the rules -----------------------------------------------------------------------------

    def _here(self, *, known: bool, asked: bool) -> _Anchor:
        return _Anchor(self._clock.monotonic(), self._clock.now(), known, asked)

    def _stands(self) -> bool:
        """Whether the clock was compared, is not wrong, and was not set since."""
        return not self.is_wrong and self._anchor is not None and not self._was_set(self._anchor)

    def _was_set(self, since: _Anchor) -> bool:
        passed = self._clock.monotonic() - since.mono
        return abs(self._clock.now() - since.wall - passed) >= OFF_S

    def _hear(self, behind_s: float) -> None:
        """A reading that is not hours off."""
        self._anchor = self._here(known=True, asked=True)
        if self.is_wrong:
            self._readings.clear()
            self._waits += 1
            self._change(None)
        self._readings.append(behind_s)
        off = [abs(one) >= OFF_S for one in self._readings]
        enough = len(off) == NEEDED
        if self.state is None and enough and all(off) and _agree(self._readings):
            self._change(behind_s)
        elif not any(off) and (enough if self.state is not None else not self._told):
            self._change(None)

    def _change(self, behind_s: float | None) -> None:
        """Record, log and report that the clock is off, or (None) that it agrees."""
        before = self.state
        if behind_s is None:
            self.state = None
            if before is not None:
                log.warning("the clock agrees with Etsy's again")
        else:
            self.state = ClockState(behind_s, self._clock.now() + behind_s)
            if self.is_wrong:
                self._wrong_mono, self._doubt_s = self._clock.monotonic(), DOUBT_FIRST_S
                log.error("%s", wrong_words(self.state))
            else:
                log.warning("the clock is %s: let the computer set it by the network", self.state)
        self._told = True
        self._tell(self.state)

    async def _settle(self) -> None:
        if not self.is_wrong:
            await self._ask()
        if self.is_wrong:
            await self._wait()

    async def _ask(self) -> None:
        """Ping until it is certain whether the clock is wrong."""
        readings: list[float] = []
        while len(readings) < NEEDED:
            behind_s = await self._ping()
            if behind_s is None:
                break
            if abs(behind_s) < WRONG_S:
                self._hear(behind_s)
                self._refute()
                return
            readings.append(behind_s)
        if len(readings) == NEEDED and _agree(readings):
            self._change(readings[-1])
        else:
            self._anchor = self._here(known=False, asked=True)
            self._refute()

    def _refute(self) -> None:
        now = self._clock.monotonic()
        if now - self._refuted_mono < 2 * self._doubt_s:
            self._doubt_s = min(2 * self._doubt_s, DOUBT_MOST_S)
        self._refuted_mono = now

    async def _wait(self) -> None:
        """Wait until a ping shows that the clock is right."""
        while self.is_wrong:
            await self._pause()
            if self._clock.monotonic() - self._wrong_mono >= self.patience_s:
                assert self.state is not None
                raise ClockWrong(wrong_words(self.state))
            try:
                behind_s = await self._ping()
            except UserError:
                raise
            except (Transient, Terminal) as error:
                log.warning("the clock could not be compared: %s", error)
                continue
            if behind_s is not None and abs(behind_s) < WRONG_S:
                self._hear(behind_s)

    async def _pause(self) -> None:
        """Wait until the next comparison is due, or patience ends."""
        import asyncio  # noqa: PLC0415 -- as above

        here = self._here(known=False, asked=False)
        end = min(here.mono + PROBE_EVERY_S, self._wrong_mono + self.patience_s)
        while (left := end - self._clock.monotonic()) > 0 and not self._was_set(here):  # noqa: ASYNC110 -- no event tells that the clock was set
            await asyncio.sleep(min(left, LOOK_EVERY_S))  # no event reports that a clock was set


def _agree(readings: Sequence[float]) -> bool:
    return max(readings) - min(readings) <= AGREE_WITHIN_S


def wrong_words(state: ClockState) -> str:
    """The message about a clock that is hours off."""
    return (
        f"the clock is {state}: nothing is written until it agrees; let the computer set it by the"
        " network"
    )
