"""The only access to Etsy's Open API: the ledger grants each call, transient faults are retried.

A call passes `_get` (tries) -> `_within_quota` (grants, 429) -> `_send` (one request) -> the
transport (`http/`), which a test may replace. The key is in one header and nowhere else.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar
from urllib.parse import urlencode

import msgspec
import stamina

from furnisync.clock import Clock
from furnisync.config import ApiKey, ApiSettings
from furnisync.errors import (
    ApiUnavailable,
    BadRequest,
    KeyRefused,
    NoResponse,
    NotFound,
    RateLimited,
    Transient,
)
from furnisync.etsy.credibility import BatchAnswers, CountMeaning
from furnisync.etsy.models import (
    Listing,
    Page,
    TaxonomyNode,
    WholePage,
    decode_page,
    decode_whole,
    decode_whole_page,
)
from furnisync.http.headers import read_date
from furnisync.http.transport import Request, Response, Transport
from furnisync.limits import ETSY_PAGING
from furnisync.quota.clock_check import ClockCheck, ClockState
from furnisync.quota.ledger import QuotaHeaders, read_headers

log = logging.getLogger("furnisync.etsy")

T = TypeVar("T")

PING = "openapi-ping"

MAX_429_IN_A_ROW = 20
REFUSED_FOR_GOOD = 3
"""This many refusals of one call, while ping succeeds, are intentional."""
REFUSED_PAUSE_S = 1.0
OUTAGE_AFTER = 5
"""This many consecutive failures, over all calls, mean that the service is down."""
OUTAGE_PAUSE_MAX_S = 300.0

SortOn = Literal["created", "price", "updated", "score"]
SortOrder = Literal["asc", "desc"]
Query = Mapping[str, str | int | float]


class Quota(Protocol):
    """What the client needs of the ledger."""

    async def acquire(self, purpose: str) -> None:
        """Return when one call may be sent now."""

    def settle(self, purpose: str, answer: QuotaHeaders | None) -> None:
        """Record what the call's answer said about the limits."""

    def note_clock(self, state: ClockState | None) -> None:
        """Record how our clock differs from the API's; None: it agrees."""


class _Reply(msgspec.Struct, frozen=True):
    """A complete answer of status 200; `behind_s` is the result of `_read_clock`."""

    body: bytes
    behind_s: float | None


class _ErrorBody(msgspec.Struct):
    error: str = ""
    error_description: str = ""


_error_body = msgspec.json.Decoder(_ErrorBody)


class EtsyClient:
    """Async client of the calls that need no OAuth; use it as an async context manager.

    It closes the transport when it ends.
    """

    def __init__(
        self,
        api_url: str,
        key: ApiKey,
        quota: Quota,
        settings: ApiSettings,
        clock: Clock,
        transport: Transport,
    ) -> None:
        self._quota = quota
        self._settings = settings
        self._clock = clock
        self._key = key
        self._api_url = api_url
        self._headers = {"x-api-key": key.header(), "accept": "application/json"}
        self._transport = transport
        self.clock_behind_s: float | None = None
        """By how much our clock is behind the API's, from the newest ping's Date."""
        self.clock = ClockCheck(clock, self._ask_time, quota.note_clock, settings.clock_patience_s)
        """Etsy's time as far as it is known; the source of all stored times."""
        self.refused_pause_s = REFUSED_PAUSE_S
        """Seconds before a call that was refused is tried again."""
        self._failures_in_a_row = 0
        self._answered = False
        self._count_meaning = CountMeaning()
        self._probing = asyncio.Lock()
        self._in_flight = 0
        self._draining = False
        self._landed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.close()

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

    async def listings_active(
        self,
        *,
        taxonomy_id: int | None = None,
        prices: tuple[float | None, float | None] = (None, None),
        sort_on: SortOn = "created",
        sort_order: SortOrder = "desc",
        limit: int = ETSY_PAGING.page_size,
        offset: int = 0,
    ) -> Page[Listing]:
        """`findAllListingsActive`; `prices` in US dollars, both ends inclusive, None is open."""
        query: dict[str, str | int | float] = {
            "limit": limit,
            "offset": offset,
            "sort_on": sort_on,
            "sort_order": sort_order,
            "currency": "USD",
        }
        if taxonomy_id is not None:
            query["taxonomy_id"] = taxonomy_id
        query |= {
            name: price
            for name, price in zip(("min_price", "max_price"), prices, strict=True)
            if price is not None
        }
        return await self._get("listings/active", query, "discovery", _listings)

    async def shop_listings_active(
        self,
        shop_id: int,
        *,
        sort_order: SortOrder = "asc",
        limit: int = ETSY_PAGING.page_size,
        offset: int = 0,
    ) -> Page[Listing]:
        """`findAllActiveListingsByShop`, by creation, oldest first by default."""
        query: dict[str, str | int | float] = {
            "limit": limit,
            "offset": offset,
            "sort_on": "created",
            "sort_order": sort_order,
        }
        path = f"shops/{shop_id}/listings/active"
        return await self._get(path, query, "shops", _listings)

    async def listings_batch(
        self,
        listing_ids: Sequence[int],
        includes: Sequence[str] = ("Images",),
        purpose: str = "batch",
    ) -> Page[Listing]:
        """`getListingsByListingIds`, at most 100 ids; unknown ids are left out."""
        if not 1 <= len(listing_ids) <= ETSY_PAGING.page_size:
            raise ValueError(
                f"batch takes 1 to {ETSY_PAGING.page_size} ids, not {len(listing_ids)}"
            )
        query = {
            "listing_ids": ",".join(map(str, listing_ids)),
            "includes": ",".join(includes),
        }
        answers = BatchAnswers(len(listing_ids), self._count_meaning)
        return await self._get("listings/batch", query, purpose, answers.decode)

    async def whole_listings(self, listing_ids: Sequence[int]) -> WholePage:
        """`getListingsByListingIds` with all fields, including the shops."""
        query = {"listing_ids": ",".join(map(str, listing_ids)), "includes": "Shop"}
        answers = BatchAnswers(len(listing_ids), self._count_meaning)
        return await self._get("listings/batch", query, "batch", answers.decode_whole)

    async def shop(self, shop_id: int) -> dict[str, Any]:
        """`getShop` with all fields."""
        return await self._get(f"shops/{shop_id}", {}, "shops", decode_whole)

    async def shop_reviews(
        self,
        shop_id: int,
        *,
        min_created: int | None = None,
        max_created: int | None = None,
        limit: int = ETSY_PAGING.page_size,
        offset: int = 0,
    ) -> WholePage:
        """`getReviewsByShop` with all fields, newest first; both ends inclusive, unix seconds."""
        query = {"limit": limit, "offset": offset}
        if min_created is not None:
            query["min_created"] = min_created
        if max_created is not None:
            query["max_created"] = max_created
        return await self._get(f"shops/{shop_id}/reviews", query, "reviews", decode_whole_page)

    async def taxonomy_nodes(self) -> list[TaxonomyNode]:
        """`getSellerTaxonomyNodes`: the roots with all nodes below them."""
        return (await self._get("seller-taxonomy/nodes", {}, "probe", _taxonomy)).items

    async def ping(self) -> None:
        """`ping`: the cheapest check of the key and of the calls left."""
        await self._get(PING, {}, "probe", bytes)

    async def _get(self, path: str, query: Query, purpose: str, decode: Callable[[bytes], T]) -> T:
        """Fetch and decode; a body that `decode` finds malformed is requested again.

        Raises:
            KeyRefused, NotFound, BadRequest: at once, because another try would not help.
            ApiUnavailable, RateLimited: after the last try.
        """
        async for attempt in stamina.retry_context(
            on=Transient,
            attempts=self._settings.attempts,
            timeout=None,
            wait_initial=0.5,
            wait_max=30.0,
            wait_jitter=0.5,
        ):
            with attempt:
                return decode(await self._under_right_clock(path, query, purpose))
        raise AssertionError("unreachable: the retry context returns or raises")

    async def _under_right_clock(self, path: str, query: Query, purpose: str) -> bytes:
        """Drop answers that arrive while our clock is hours off, and request them again later."""
        while True:
            reply = await self._within_quota(path, query, purpose)
            if path == PING or await self.clock.admits(reply.behind_s):
                return reply.body

    async def _ask_time(self) -> float | None:
        await self.ping()
        return self.clock_behind_s

    async def _within_quota(self, path: str, query: Query, purpose: str) -> _Reply:
        """Send as soon as the ledger allows; after a 429 the ledger waits, unlike after a fault."""
        refused = 0
        for _ in range(MAX_429_IN_A_ROW):
            try:
                if self._failures_in_a_row < OUTAGE_AFTER:
                    return await self._send(path, query, purpose)
                async with self._probing:
                    await self._wait_out_outage()
                    return await self._send(path, query, purpose)
            except RateLimited as error:
                limited = error
            except KeyRefused as error:
                refused += 1
                if not self._answered or not await self._key_works():
                    raise
                if path.startswith("shops/"):
                    words = f"{path}: refused to this key, which works else"
                    raise BadRequest(words) from error
                if refused == REFUSED_FOR_GOOD:
                    raise
                await asyncio.sleep(self.refused_pause_s * refused)
        raise limited

    async def _key_works(self) -> bool:
        """Ping at most twice: a single refusal, or one shop's, must not end a run of months."""
        for pause_s in (self.refused_pause_s, None):
            try:
                await self._send(PING, {}, "probe")
            except KeyRefused:
                if pause_s is not None:
                    await asyncio.sleep(pause_s)
            else:
                return True
        return False

    async def _wait_out_outage(self) -> None:
        beyond = self._failures_in_a_row - OUTAGE_AFTER
        if beyond < 0:
            return
        pause_s = min(2.0 ** min(beyond, 10), OUTAGE_PAUSE_MAX_S)
        if pause_s >= 4:
            log.warning(
                "Etsy's API failed %d times in a row; next try in %.0f s",
                self._failures_in_a_row,
                pause_s,
            )
        await asyncio.sleep(pause_s)

    async def _send(self, path: str, query: Query, purpose: str) -> _Reply:
        """Send one request; the ledger learns every result."""
        if self._draining:
            await asyncio.Event().wait()
        await self._quota.acquire(purpose)
        if self._draining:
            self._quota.settle(purpose, None)
            await asyncio.Event().wait()
        answer: QuotaHeaders | None = None
        self._in_flight += 1
        try:
            response = await self._transport.fetch(self._request(path, query))
            now = self._clock.now()
            answer = read_headers(response.status, response.headers, now)
        except NoResponse as error:
            if error.status:
                answer = read_headers(error.status, error.headers, self._clock.now())
            self._failures_in_a_row += 1
            raise ApiUnavailable(f"{path}: no answer ({self._without_key(str(error))})") from error
        finally:
            self._in_flight -= 1
            self._landed.set()
            self._quota.settle(purpose, answer)
        self._raise_for_status(path, answer, response.body)
        self._failures_in_a_row = 0
        self._answered = True
        behind_s = _read_clock(response, now)
        if path == PING:
            self.clock_behind_s = behind_s
        return _Reply(response.body, behind_s)

    def _request(self, path: str, query: Query) -> Request:
        url = f"{self._api_url}/{path}"
        return Request(f"{url}?{urlencode(query)}" if query else url, self._headers)

    def _raise_for_status(self, path: str, answer: QuotaHeaders, body: bytes) -> None:
        status = answer.status
        if status == 200:
            return
        said = self._words(body)
        if status == 429:
            raise RateLimited(f"{path}: 429 {said}", answer.retry_after_s)
        if status in (401, 403) and said:
            raise KeyRefused(
                f'Etsy refused the API key ({status}: "{said}"): check ETSY_API_KEY and'
                " ETSY_SHARED_SECRET in .env against etsy.com/developers/your-apps."
            )
        if status >= 500 or status < 400 or status in (401, 403, 407, 408, 425):
            self._failures_in_a_row += 1
            raise ApiUnavailable(f"{path}: {status} {said}".rstrip())
        self._failures_in_a_row = 0
        if status in (404, 410):
            raise NotFound(f"{path}: {status} {said}".rstrip())
        raise BadRequest(f"{path}: {status} {said}".rstrip())

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


def _listings(body: bytes) -> Page[Listing]:
    return decode_page(body, Listing)


def _taxonomy(body: bytes) -> Page[TaxonomyNode]:
    page = decode_page(body, TaxonomyNode)
    if not page.items:
        raise ApiUnavailable("the taxonomy came empty")
    return page


def _read_clock(response: Response, now: float) -> float | None:
    """By how many seconds `now` is behind the Date of an answer that the API just sent.

    None if it says nothing. The page of a proxy is not JSON, and an answer from a cache has an
    Age.
    """
    if response.headers.get("age", "0") != "0" or response.body.lstrip()[:1] not in (b"{", b"["):
        return None
    sent_at = read_date(response.headers.get("date"))
    return None if sent_at is None else sent_at - now
