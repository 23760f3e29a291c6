"""The only access to Etsy's Open API: each call, its tries, and what it waits for.

A call passes `_get` (tries) -> `Upstreams` (outages) -> `ClockCheck` -> `Sender` (grants, 429) ->
the transport (`http/`), which a test may replace.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar

from furnisync.circuit_breaker import Outage
from furnisync.clock import Clock
from furnisync.config import ApiKey, ApiSettings
from furnisync.errors import (
    ApiUnavailable,
    BadRequest,
    DoubtfulAnswer,
    ItemRefused,
    NotFound,
    Terminal,
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
from furnisync.etsy.sender import PING, ApiCall, Budget, Query, Sender
from furnisync.etsy.upstreams import Upstreams
from furnisync.http.transport import Transport
from furnisync.limits import ETSY_PAGING
from furnisync.quota.clock_check import ClockCheck, ClockState

__all__ = ["EtsyClient", "Quota", "SortOn", "SortOrder"]

log = logging.getLogger("furnisync.etsy")

T = TypeVar("T")

RETRY_FIRST_S = 0.5
RETRY_MOST_S = 30.0

SortOn = Literal["created", "price", "updated", "score"]
SortOrder = Literal["asc", "desc"]


class Quota(Budget, Protocol):
    """What the client needs of the ledger."""

    def note_clock(self, state: ClockState | None) -> None:
        """Record how our clock differs from the API's; None: it agrees."""

    def note_outages(self, outages: Sequence[Outage]) -> None:
        """Record what is broken now."""


class EtsyClient:
    """Async client of the calls that need no OAuth; use it as an async context manager.

    It closes the transport when it ends.

    Attributes:
        clock: Etsy's time as far as it is known; the source of all stored times.
        clock_behind_s: by how much our clock is behind the API's, from the newest ping's Date.
        upstreams: what is broken now, and how long a call waits for it.
        sender: sends single requests.
        retry_first_s: seconds before the second try of a call; later ones wait longer.
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
        self._settings = settings
        self._transport = transport
        self._count_meaning = CountMeaning()
        self.sender = Sender(api_url, key, quota, clock, transport)
        self.clock_behind_s: float | None = None
        self.clock = ClockCheck(clock, self._ask_time, quota.note_clock, settings.clock_patience_s)
        self.upstreams = Upstreams(clock, self._ping_once, quota.note_outages)
        self.retry_first_s = RETRY_FIRST_S

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
        """Start no further call; return once those in flight ended, or after `timeout_s`."""
        await self.sender.drain(timeout_s)

    async def listings_active(
        self,
        *,
        taxonomy_id: int | None = None,
        prices: tuple[float | None, float | None] = (None, None),
        sort_on: SortOn = "created",
        sort_order: SortOrder = "desc",
        limit: int = ETSY_PAGING.page_size,
        offset: int = 0,
        part_of: Hashable = None,
    ) -> Page[Listing]:
        """`findAllListingsActive`; `prices` in US dollars, both ends inclusive, None is open.

        `part_of` names the page that failed and is read in parts now; so below.
        """
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
        return await self._get("listings/active", query, "discovery", _listings, part_of=part_of)

    async def shop_listings_active(
        self,
        shop_id: int,
        *,
        sort_order: SortOrder = "asc",
        limit: int = ETSY_PAGING.page_size,
        offset: int = 0,
        part_of: Hashable = None,
    ) -> Page[Listing]:
        """`findAllActiveListingsByShop`, by creation, oldest first by default."""
        query: dict[str, str | int | float] = {
            "limit": limit,
            "offset": offset,
            "sort_on": "created",
            "sort_order": sort_order,
        }
        path = f"shops/{shop_id}/listings/active"
        return await self._get(path, query, "shops", _listings, part_of=part_of)

    async def listings_batch(
        self,
        listing_ids: Sequence[int],
        *,
        part_of: Hashable = None,
    ) -> Page[Listing]:
        """`getListingsByListingIds`, at most 100 ids; unknown ids are left out.

        `part_of` names the batch that failed and is asked in parts now.
        """
        if not 1 <= len(listing_ids) <= ETSY_PAGING.page_size:
            raise ValueError(
                f"batch takes 1 to {ETSY_PAGING.page_size} ids, not {len(listing_ids)}"
            )
        answers = BatchAnswers(len(listing_ids), self._count_meaning)
        query = _batch_query(listing_ids)
        return await self._get("listings/batch", query, "batch", answers.decode, part_of=part_of)

    async def whole_listings(
        self, listing_ids: Sequence[int], *, part_of: Hashable = None
    ) -> WholePage:
        """`getListingsByListingIds` with all fields, including the shops; `part_of` as above."""
        answers = BatchAnswers(len(listing_ids), self._count_meaning)
        query = _batch_query(listing_ids)
        decode = answers.decode_whole
        return await self._get("listings/batch", query, "batch", decode, part_of=part_of)

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
        part_of: Hashable = None,
    ) -> WholePage:
        """`getReviewsByShop` with all fields, newest first; both ends inclusive, unix seconds."""
        query = {"limit": limit, "offset": offset}
        if min_created is not None:
            query["min_created"] = min_created
        if max_created is not None:
            query["max_created"] = max_created
        path = f"shops/{shop_id}/reviews"
        return await self._get(path, query, "reviews", decode_whole_page, part_of=part_of)

    async def taxonomy_nodes(self) -> list[TaxonomyNode]:
        """`getSellerTaxonomyNodes`: the roots with all nodes below them."""
        return (await self._get("seller-taxonomy/nodes", {}, "probe", _taxonomy)).items

    async def ping(self) -> None:
        """`ping`: the cheapest check of the key and of the calls left."""
        await self._get(PING, {}, "probe", decode_whole)

    async def _get(
        self,
        path: str,
        query: Query,
        purpose: str,
        decode: Callable[[bytes], T],
        *,
        part_of: Hashable = None,
    ) -> T:
        """Fetch and decode; what fails in a way that may pass is requested again.

        Tries count only while the API and this kind of call work: see `Upstreams`. A `part_of`
        something that failed is tried once.

        Raises:
            KeyRefused, NotFound, BadRequest, ItemRefused: at once, another try would not help.
            ApiUnavailable, RateLimited: after the last try.
            UpstreamDown: the API did not work for the patience.
        """
        call = ApiCall(path, purpose, query)
        item = part_of or (path, tuple(query.values()))
        most = self._settings.attempts if part_of is None else 1
        tries = 0
        while True:
            probe = await self.upstreams.admit(call)
            tries += 1
            try:
                return await self._try(call, decode, probe=probe)
            except (ApiUnavailable, BadRequest, ItemRefused) as error:
                last = tries >= most or isinstance(error, Terminal)
                blame = await self.upstreams.blame(call, error, item=item, last=last, probe=probe)
                if (blame == "item" and last) or blame == "probe":
                    raise
                if blame == "upstream":
                    tries = 0
                    continue
            await asyncio.sleep(self._retry_wait_s(tries))

    async def _try(self, call: ApiCall, decode: Callable[[bytes], T], *, probe: bool) -> T:
        began_mono = self.clock.monotonic()
        try:
            decoded = decode(await self._under_right_clock(call))
        except NotFound:
            await self.upstreams.record_success(call, began_mono, probe=probe)
            raise
        except (ApiUnavailable, BadRequest, ItemRefused):
            raise
        except BaseException:
            self.upstreams.drop(call)
            raise
        await self.upstreams.record_success(call, began_mono, probe=probe)
        return decoded

    def _retry_wait_s(self, tries: int) -> float:
        """Grows with the tries, and differs, so that calls that failed together spread."""
        wait_s = min(self.retry_first_s * 2.0 ** (tries - 1), RETRY_MOST_S)
        return wait_s * random.uniform(1.0, 2.0)  # noqa: S311 -- no secret

    async def _under_right_clock(self, call: ApiCall) -> bytes:
        """Drop answers that arrive while our clock is hours off, and request them again later."""
        while True:
            reply = await self.sender.send(call)
            if call.path == PING:
                self.clock_behind_s = reply.behind_s
                return reply.body
            if await self.clock.admits(reply.behind_s):
                return reply.body

    async def _ask_time(self) -> float | None:
        await self.ping()
        return self.clock_behind_s

    async def _ping_once(self) -> None:
        decode_whole((await self.sender.send(ApiCall(PING, "probe"))).body)


def _batch_query(listing_ids: Sequence[int]) -> Query:
    """Images and shops come with each batch: both programs use the answer, which costs the same."""
    return {"listing_ids": ",".join(map(str, listing_ids)), "includes": "Images,Shop"}


def _listings(body: bytes) -> Page[Listing]:
    return decode_page(body, Listing)


def _taxonomy(body: bytes) -> Page[TaxonomyNode]:
    page = decode_page(body, TaxonomyNode)
    if not page.items:
        raise DoubtfulAnswer("the taxonomy came empty")
    return page
