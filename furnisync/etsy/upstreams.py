"""Is the API broken, a kind of its calls, or only one item? If it is not the item, calls wait.

| who fails       | how it is found                         | what happens                         |
| --------------- | --------------------------------------- | ------------------------------------ |
| the API         | an item failed for the last time, or    | all calls wait; single pings try,    |
|                 | several in a row, and then ping fails   | and then the same calls continue     |
| a kind of call  | several in a row failed, and ping works | calls of that kind wait; single ones |
|                 |                                         | try, a different one each time       |
| an item         | its own tries, while others succeed     | its caller sets it aside             |

Several in a row are `circuit_breaker.SUSPECT_AFTER` different items. The caller of a single item
that tries while its kind is broken gets the error after one try, so that another item follows. What
callers set aside during an outage is due again after it: see `on_recovered`.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable
from datetime import datetime
from typing import Literal

from furnisync.circuit_breaker import CircuitBreaker, Outage
from furnisync.clock import Clock
from furnisync.errors import (
    ApiUnavailable,
    BadRequest,
    DoubtfulAnswer,
    FurnisyncError,
    Terminal,
    UpstreamDown,
)
from furnisync.etsy.sender import ApiCall

__all__ = ["Blame", "Recovered", "Upstreams"]

API = "Etsy's API"
POLL_S = 0.5
_KINDS = {
    "listings/active": "searches",
    "listings/batch": "batches of listings",
    "seller-taxonomy/nodes": "the taxonomy",
    "shops/N": "shops",
    "shops/N/listings/active": "lists of shops",
    "shops/N/reviews": "reviews",
}

Blame = Literal["item", "upstream", "probe"]
"""`upstream`: the item waits for it and loses no try. `probe`: it tried while its kind of call was
broken, so another item is next."""
Recovered = Callable[[float], Awaitable[None]]
"""Gets the start of an outage that ended (unix seconds): what was set aside since then is due."""


class Upstreams:
    """The breakers of one client; for use from its event loop.

    Attributes:
        patience_s: how long an outage may last before a call gives up; 0 for a single question,
            infinite for a run that does not end.
        on_recovered: called after each outage; None where nothing was set aside.
    """

    def __init__(
        self,
        clock: Clock,
        ping: Callable[[], Awaitable[None]],
        tell: Callable[[tuple[Outage, ...]], None],
    ) -> None:
        """Make breakers that are closed.

        Args:
            clock: the time.
            ping: sends one ping; fails with an `ApiUnavailable`.
            tell: receives each change of the outages.
        """
        self.patience_s = 0.0
        self.on_recovered: Recovered | None = None
        self._clock = clock
        self._ping = ping
        self._tell = tell
        self._api = CircuitBreaker(API, clock, self._changed)
        self._kinds: dict[str, CircuitBreaker] = {}
        self._worked_mono = float("-inf")
        self._checking = asyncio.Lock()

    @property
    def outages(self) -> tuple[Outage, ...]:
        """What is broken now."""
        breakers = (self._api, *self._kinds.values())
        return tuple(one.outage for one in breakers if one.outage is not None)

    async def admit(self, call: ApiCall) -> bool:
        """Return when a call may be sent.

        Returns:
            whether it is the probe of a kind of call that is broken.

        Raises:
            UpstreamDown: the outage lasts longer than the patience.
        """
        kind = self._kind_of(call)
        while True:
            await self._wait_for(self._api)
            if self._is_down():
                await self._probe_api()
                continue
            await self._wait_for(kind)
            if not self._is_down():
                return kind.outage is not None
            kind.drop_probe()

    def _is_down(self) -> bool:
        return self._api.outage is not None

    def drop(self, call: ApiCall) -> None:
        """A call ended without an outcome."""
        self._kind_of(call).drop_probe()

    async def record_success(self, call: ApiCall, began_mono: float, *, probe: bool) -> None:
        """A call was answered soundly.

        What was in flight when an outage began does not end it.

        Args:
            call: what was answered.
            began_mono: monotonic time at which it began.
            probe: as `admit` returned it.
        """
        self._worked_mono = max(self._worked_mono, began_mono)
        kind = self._kind_of(call)
        if kind.outage is None or probe:
            await self._close(kind)

    async def blame(
        self, call: ApiCall, error: FurnisyncError, *, item: Hashable, last: bool, probe: bool
    ) -> Blame:
        """Record a failure and decide who is to blame.

        Args:
            call: what failed.
            error: how.
            item: for whatever the call was.
            last: the item has no try left.
            probe: as `admit` returned it.
        """
        kind, code, now_mono = self._kind_of(call), _code_of(error), self._clock.monotonic()
        if isinstance(error, DoubtfulAnswer):
            await self.record_success(call, now_mono, probe=probe)
            return "item"
        since_mono = min(kind.failing_since_mono, now_mono)
        if isinstance(error, Terminal):
            self._worked_mono = now_mono
        if self._is_down():
            kind.drop_probe()
            return "upstream"
        suspect = kind.record_failure(item, code, str(error))
        if not (suspect or last):
            return "item"
        if await self._api_works(since_mono):
            if probe:
                return "probe"
            if not suspect:
                return "item"
            if kind.outage is None:
                kind.open(code, str(error))
        return "upstream"

    def _kind_of(self, call: ApiCall) -> CircuitBreaker:
        path = re.sub(r"\d+", "N", call.path)
        found = self._kinds.get(path)
        if found is None:
            name = f"{API} ({_KINDS.get(path, path)})"
            found = self._kinds[path] = CircuitBreaker(name, self._clock, self._changed)
        return found

    async def _api_works(self, since_mono: float) -> bool:
        """Whether a call that began since then was answered; otherwise ping."""
        async with self._checking:
            if self._is_down():
                return False
            if self._worked_mono >= since_mono:
                return True
            return await self._probe_api()

    async def _probe_api(self) -> bool:
        try:
            await self._ping()
        except ApiUnavailable as error:
            self._api.open(error.kind, str(error))
            return False
        except BaseException:
            self._api.drop_probe()
            raise
        self._worked_mono = self._clock.monotonic()
        await self._close(self._api)
        return True

    async def _close(self, breaker: CircuitBreaker) -> None:
        outage = breaker.outage
        breaker.record_success()
        if outage is None:
            return
        if breaker is self._api:
            for kind in self._kinds.values():  # what failed meanwhile says nothing about a kind
                if kind.outage is None:
                    kind.record_success()
        if self.on_recovered is not None:
            await self.on_recovered(outage.since)

    async def _wait_for(self, breaker: CircuitBreaker) -> None:
        """Wait until the breaker lets a call through."""
        while not breaker.may_send():
            outage = breaker.outage
            if outage is not None and breaker.lasts_s >= self.patience_s:
                since = datetime.fromtimestamp(outage.since).astimezone().strftime("%H:%M")
                raise UpstreamDown(
                    f"{outage.upstream} has been broken since {since} ({outage.reason}): nothing"
                    " is lost; run the same command again once it works."
                )
            await asyncio.sleep(min(breaker.wait_s, POLL_S))

    def _changed(self, _: Outage | None) -> None:
        self._tell(self.outages)


def _code_of(error: FurnisyncError) -> str:
    if isinstance(error, ApiUnavailable):
        return error.kind
    return "bad_request" if isinstance(error, BadRequest) else "refused"
