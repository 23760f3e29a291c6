"""One call on its way to Etsy and back: the ledger grants it, its status decides what comes back.

    send --> ledger --> one request --> ledger told --> body, or an error by status
             ^                                            |
             +--- 429 of the key: the ledger waits -------+

The key is in one header and nowhere else.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from furnisync.clock import Clock
from furnisync.config import ApiKey
from furnisync.errors import (
    ApiUnavailable,
    BadRequest,
    ItemRefused,
    KeyRefused,
    NoResponse,
    NotFound,
    RateLimited,
)
from furnisync.etsy.models import NOT_JSON
from furnisync.http.headers import read_date
from furnisync.http.transport import Request, Response, Transport
from furnisync.quota.headers import QuotaHeaders, blames_key, read_headers

log = logging.getLogger("furnisync.etsy")

PING = "openapi-ping"

MAX_429_IN_A_ROW = 20
REFUSED_FOR_GOOD = 3
"""This many refusals of one call, while ping succeeds, are intentional."""
REFUSED_PAUSE_S = 1.0

Query = Mapping[str, str | int | float]


class Budget(Protocol):
    """What sending needs of the ledger."""

    async def acquire(self, purpose: str) -> None:
        """Return when one call may be sent now."""

    def settle(self, purpose: str, answer: QuotaHeaders | None) -> None:
        """Record what the call's answer said about the limits."""


class ApiCall(msgspec.Struct, frozen=True):
    """What is sent.

    Attributes:
        path: below the API's address.
        purpose: as the ledger counts it.
    """

    path: str
    purpose: str
    query: Query = {}


class Reply(msgspec.Struct, frozen=True):
    """A complete answer of status 200.

    Attributes:
        behind_s: seconds by which our clock is behind the answer's Date; None if it says nothing.
    """

    body: bytes
    behind_s: float | None


class _ErrorBody(msgspec.Struct):
    error: str = ""
    error_description: str = ""


_error_body = msgspec.json.Decoder(_ErrorBody)


class Sender:
    """Sends calls with the key."""

    def __init__(
        self, api_url: str, key: ApiKey, budget: Budget, clock: Clock, transport: Transport
    ) -> None:
        """Make a sender; the caller closes the transport."""
        self._api_url = api_url
        self._key = key
        self._budget = budget
        self._clock = clock
        self._transport = transport
        self._headers = {"x-api-key": key.header(), "accept": "application/json"}
        self.refused_pause_s = REFUSED_PAUSE_S
        """Seconds before a call that was refused is tried again."""
        self._answered = False
        self._in_flight = 0
        self._draining = False
        self._landed = asyncio.Event()

    async def drain(self, timeout_s: float) -> None:
        """Start no further call; return once those in flight ended, or after `timeout_s`.

        Callers of calls that do not start wait until they are cancelled.
        """
        self._draining = True
        try:
            async with asyncio.timeout(timeout_s):
                while self._in_flight:
                    self._landed.clear()
                    await self._landed.wait()
        except TimeoutError:
            log.warning("%d calls in flight are given up", self._in_flight)

    async def send(self, call: ApiCall) -> Reply:
        """Send as soon as the ledger allows; after a 429 of the key the ledger waits.

        Raises:
            KeyRefused, ItemRefused, NotFound, BadRequest: another try would not help.
            ApiUnavailable: no sound answer came.
            RateLimited: 429 came again and again.
        """
        refused = limited = 0
        while True:
            try:
                return await self._send_once(call)
            except RateLimited as error:
                limited += 1
                await self._judge_limit(call, error, limited)
            except (ItemRefused, KeyRefused) as error:
                refused += 1
                await self._judge_refusal(call, error, refused)

    async def _judge_limit(self, call: ApiCall, error: RateLimited, number: int) -> None:
        """After its wait in the ledger a call is sent again, unless only this call is refused."""
        unclear = not error.counted and number > 1 and call.path != PING
        if unclear and await self._key_works():
            raise ItemRefused(f"{error}, while the key works") from error
        if number == MAX_429_IN_A_ROW:
            raise error

    async def _judge_refusal(
        self, call: ApiCall, error: ItemRefused | KeyRefused, number: int
    ) -> None:
        """Wait before the next try, unless the key is refused or this call for good."""
        if isinstance(error, KeyRefused):
            if not self._answered or not await self._key_works():
                raise error
            if call.path.startswith("shops/"):
                raise ItemRefused(f"{call.path}: refused to this key, which works else") from error
        if number == REFUSED_FOR_GOOD:
            raise error
        await asyncio.sleep(self.refused_pause_s * number)

    async def _key_works(self) -> bool:
        """Ping at most twice: a single refusal, or one shop's, must not end a run of months."""
        for pause_s in (self.refused_pause_s, None):
            try:
                await self._send_once(ApiCall(PING, "probe"))
            except (KeyRefused, RateLimited):
                if pause_s is not None:
                    await asyncio.sleep(pause_s)
            else:
                return True
        return False

    async def _send_once(self, call: ApiCall) -> Reply:
        """Send one request; the ledger learns every result."""
        if self._draining:
            await asyncio.Event().wait()
        await self._budget.acquire(call.purpose)
        if self._draining:
            self._budget.settle(call.purpose, None)
            await asyncio.Event().wait()
        answer: QuotaHeaders | None = None
        self._in_flight += 1
        try:
            response = await self._transport.fetch(self._request(call))
            now = self._clock.now()
            answer = read_headers(response.status, response.headers, now)
        except NoResponse as error:
            if error.status:
                answer = read_headers(error.status, error.headers, self._clock.now())
            words = f"{call.path}: no answer ({self._without_key(str(error))})"
            raise ApiUnavailable(words, "unreachable") from error
        finally:
            self._in_flight -= 1
            self._landed.set()
            self._budget.settle(call.purpose, answer)
        self._raise_for_status(call.path, answer, response.body)
        if response.body.lstrip()[:1] not in (b"{", b"["):
            raise ApiUnavailable(f"{call.path}: the answer is not JSON", NOT_JSON)
        self._answered = True
        return Reply(response.body, _read_clock(response, now))

    def _request(self, call: ApiCall) -> Request:
        url = f"{self._api_url}/{call.path}"
        return Request(f"{url}?{urlencode(call.query)}" if call.query else url, self._headers)

    def _raise_for_status(self, path: str, answer: QuotaHeaders, body: bytes) -> None:
        status = answer.status
        if status == 200:
            return
        said = self._words(body)
        words = f"{path}: {status} {said}".rstrip()
        if status == 429:
            if blames_key(answer):
                raise RateLimited(words, counted=answer.remaining_today is not None)
            raise ItemRefused(f"{words}, while the key has calls left")
        if status in (401, 403) and said:
            raise KeyRefused(
                f'Etsy refused the API key ({status}: "{said}"): check ETSY_API_KEY and'
                " ETSY_SHARED_SECRET in .env against etsy.com/developers/your-apps."
            )
        if status < 400:
            raise ApiUnavailable(words, "redirected")
        if status in (401, 403, 407):
            raise ApiUnavailable(words, "refused")
        if status >= 500 or status in (408, 425):
            raise ApiUnavailable(words)
        if status in (404, 410):
            raise NotFound(words)
        raise BadRequest(words)

    def _words(self, body: bytes) -> str:
        """The message of an error body, without our key if it contains that."""
        try:
            error = _error_body.decode(body)
        except (ValueError, RecursionError):
            return ""
        return self._without_key(error.error_description or error.error)

    def _without_key(self, words: str) -> str:
        for secret in (self._key.shared_secret, self._key.keystring):
            words = words.replace(secret, "[key]")
        return "".join(one for one in words[:300] if one.isprintable())


def _read_clock(response: Response, now: float) -> float | None:
    """By how many seconds `now` is behind the Date of an answer that the API just sent.

    None if it says nothing: an answer from a cache has an Age.
    """
    if response.headers.get("age", "0") != "0":
        return None
    sent_at = read_date(response.headers.get("date"))
    return None if sent_at is None else sent_at - now
