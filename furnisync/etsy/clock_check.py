"""Does our clock agree with Etsy's? Decided by the Date of answers, before anything is written.

| difference            | what happens                                                            |
| --------------------- | ----------------------------------------------------------------------- |
| under a minute        | nothing                                                                 |
| minutes, 3 in a row   | a warning, until it ends                                                |
| an hour and more      | ping is asked at once: one odd Date (a cache, a proxy) stops nothing    |
| ... and 3 pings agree | all calls wait and no time is written until a ping says that it is right |
| no Date at all        | unknown: everything goes on, but nothing is purged by age               |

Between two answers the monotonic clock tells whether ours was set: then ping is asked before the
next time is written.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from furnisync.clock import WRONG_S, Clock
from furnisync.errors import ClockWrong, Terminal, Transient, UserError

log = logging.getLogger("furnisync.etsy")

OFF_S: Final = 60.0
"""From here on the clock is off, and a person should know."""
NEEDED: Final = 3
"""So many readings that agree decide."""
AGREE_WITHIN_S: Final = 60.0
PROBE_EVERY_S: Final = 300.0
"""So often a wrong clock is compared again; at once where it is seen to be set."""
LOOK_EVERY_S: Final = 1.0
DOUBT_FIRST_S: Final = 60.0
DOUBT_MOST_S: Final = 3600.0
"""After a ping has refuted an odd Date, others like it are believed odd for so long."""


class ClockState(msgspec.Struct, frozen=True):
    """How a clock that does not agree differs from Etsy's.

    Attributes:
        behind_s: seconds by which ours is behind; negative where it is ahead.
        since: when this was first seen, by Etsy's clock (unix seconds).
    """

    behind_s: float
    since: float

    @property
    def wrong(self) -> bool:
        """Whether it is hours off, so that nothing is written under it."""
        return abs(self.behind_s) >= WRONG_S

    def __str__(self) -> str:
        size = abs(self.behind_s)
        for unit, length in (("days", 2 * 86_400.0), ("hours", 2 * 3600.0), ("minutes", 120.0)):
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
        known: it was not hours off; else nothing could be told.
        asked: a ping would tell no more.
    """

    mono: float
    wall: float
    known: bool
    asked: bool


class ClockCheck:
    """Holds calls and times back while our clock is hours off; a `Clock` that tells Etsy's time.

    Attributes:
        state: how the clock is off; None where it agrees or nothing is known.
        patience_s: so long a wrong clock is waited for; infinite where a run never ends.
    """

    def __init__(
        self,
        clock: Clock,
        ping: Callable[[], Awaitable[float | None]],
        tell: Callable[[ClockState | None], None],
        patience_s: float,
    ) -> None:
        """Make a check that has seen nothing.

        Args:
            clock: ours.
            ping: asks Etsy by how many seconds our clock is behind; None: the answer does not tell.
            tell: told of each change of `state`, and of the first comparison.
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
        """Whether an answer has shown that it is not hours off, and it was not set since."""
        return self._stands() and self._anchor is not None and self._anchor.known

    def now(self) -> float:
        """Unix time: ours, or Etsy's where ours is known to be hours off."""
        state = self.state
        wrong = state is not None and state.wrong
        return self._clock.now() + (state.behind_s if state is not None and wrong else 0.0)

    def monotonic(self) -> float:
        """As our clock's."""
        return self._clock.monotonic()

    async def look(self) -> None:
        """Compare now: one ping, and more only where it says hours off.

        Raises:
            Transient, Terminal, UserError: Etsy does not answer.
        """
        async with self._turn:
            await self._ask()

    async def trusted_now(self) -> float:
        """Our unix time, waited for while it is hours off.

        Costs a ping where no answer was compared yet, or the clock was set since.

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
        """Compare an answer's Date (None: it has none that counts); waits while hours off.

        Returns:
            False where it had to wait: the answer is old by then and is to be asked for again.

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
        """Whether the clock is wrong, or a Date wants a ping: not soon after one refuted it."""
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
        """Note, log and tell that the clock is off, or (None) that it agrees."""
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
        """Ask ping, so often as it takes to be sure that the clock is wrong."""
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
        """Until a ping says that the clock is right."""
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
        """Until it is worth comparing again, or patience ends."""
        here = self._here(known=False, asked=False)
        end = min(here.mono + PROBE_EVERY_S, self._wrong_mono + self.patience_s)
        while (left := end - self._clock.monotonic()) > 0 and not self._was_set(here):  # noqa: ASYNC110
            await asyncio.sleep(min(left, LOOK_EVERY_S))  # nothing tells when a clock is set


def _agree(readings: Sequence[float]) -> bool:
    return max(readings) - min(readings) <= AGREE_WITHIN_S


def wrong_words(state: ClockState) -> str:
    """What a person is told of a clock that is hours off."""
    return (
        f"the clock is {state}: nothing is written until it agrees; let the computer set it by the"
        " network"
    )


def read_date(headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """What the Date of an answer tells, if it is the API's own and of now.

    A page of a proxy is no JSON, and what comes out of a cache bears an Age.
    """
    if headers.get("age", "0") != "0" or body[:80].lstrip()[:1] not in (b"{", b"["):
        return None
    return read_clock(headers.get("date"), now)


def read_clock(date: str | None, now: float) -> float | None:
    """By how many seconds `now` is behind a Date header; None where it tells nothing."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp() - now
    except (ValueError, OverflowError):
        return None
