"""The API's calls: their parameters, checked as Etsy checks them, and their answers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from furnisync.sandbox.world.money import USD_RATES
from furnisync.sandbox.world.objects import INCLUDES
from furnisync.sandbox.world.search import SORTS, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from furnisync.sandbox.world.objects import Writer
    from furnisync.sandbox.world.world import Listing, Shop, World

__all__ = ["CALLS", "ApiResult", "Calls", "RefusedError", "route"]

_OFFSET_CAP = 12_000
_BATCH_CAP = 100
_OLDEST = 946_684_800  # the smallest timestamp that Etsy's reference allows
_ORDERS = {"asc": False, "ascending": False, "up": False}
_ORDERS |= {"desc": True, "descending": True, "down": True}

CALLS = (
    "listings/active",
    "listings/batch",
    "listings/{listing_id}",
    "listings/{listing_id}/images",
    "listings/{listing_id}/reviews",
    "shops/{shop_id}",
    "shops/{shop_id}/listings/active",
    "shops/{shop_id}/reviews",
    "seller-taxonomy/nodes",
    "buyer-taxonomy/nodes",
    "openapi-ping",
)
_ROUTES = [(re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", call)), call) for call in CALLS]


class RefusedError(Exception):
    """A call that is answered with an error: the status and Etsy's message."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


@dataclass(slots=True)
class ApiResult:
    """A list with its count, or one object."""

    results: list[bytes] = field(default_factory=list)
    count: int = 0
    single: bytes | None = None

    def body(self) -> bytes:
        """Return the answer as JSON."""
        if self.single is not None:
            return self.single
        return b'{"count":%d,"results":[%s]}' % (self.count, b",".join(self.results))


def route(path: str) -> tuple[str, dict[str, str]]:
    """Return the call's name and the parts of its path; ("?", {}) for no known call."""
    for pattern, call in _ROUTES:
        match = pattern.fullmatch(path)
        if match:
            return call, match.groupdict()
    return "?", {}


class Calls:
    """Answers calls from the world."""

    def __init__(self, world: World, writer: Writer) -> None:
        self._world = world
        self._writer = writer
        self._by_name: dict[str, Callable[[dict[str, str]], ApiResult]] = {
            "listings/active": self._active,
            "listings/batch": self._batch,
            "listings/{listing_id}": self._listing,
            "listings/{listing_id}/images": self._images,
            "listings/{listing_id}/reviews": self._listing_reviews,
            "shops/{shop_id}": self._shop,
            "shops/{shop_id}/listings/active": self._shop_active,
            "shops/{shop_id}/reviews": self._shop_reviews,
            "seller-taxonomy/nodes": self._taxonomy,
            "buyer-taxonomy/nodes": self._taxonomy,
            "openapi-ping": lambda _: ApiResult(single=b'{"application_id":123456789}'),
        }

    def answer(self, call: str, facts: dict[str, str]) -> ApiResult:
        """Answer a call; `facts` are its query parameters and the parts of its path."""
        if call not in self._by_name:
            raise RefusedError(404, "Resource not found")
        return self._by_name[call](facts)

    # -- listings --------------------------------------------------------------------------

    def _active(self, facts: dict[str, str]) -> ApiResult:
        query = Query(
            taxonomy=_whole(facts, "taxonomy_id", least=1),
            min_price=_number(facts, "min_price"),
            max_price=_number(facts, "max_price"),
            keywords=facts.get("keywords", "").strip(),
            location=facts.get("shop_location", "").strip(),
            sort_on=_sort(facts),
            descending=_descending(facts),
        )
        return self._search(query, facts, _currency(facts))

    def _shop_active(self, facts: dict[str, str]) -> ApiResult:
        query = Query(
            shop=self._known_shop(facts).shop_id,
            keywords=facts.get("keywords", "").strip(),
            sort_on=_sort(facts),
            descending=_descending(facts),
        )
        return self._search(query, facts, None)

    def _search(self, query: Query, facts: dict[str, str], currency: str | None) -> ApiResult:
        limit, offset = _paging(facts)
        found = self._world.find(query)
        page = [self._world.listings[serial] for serial in found[offset : offset + limit]]
        return ApiResult([self._writer.plain(one, currency) for one in page], len(found))

    def _batch(self, facts: dict[str, str]) -> ApiResult:
        ids = _ids(facts.get("listing_ids", ""))
        includes, currency = _includes(facts), _currency(facts)
        known = (self._world.by_id.get(i) for i in sorted(set(ids)))
        found = [one for one in known if one and one.visible]
        results = [self._writer.full(one, includes, currency) for one in found]
        return ApiResult(results, len(results))

    def _listing(self, facts: dict[str, str]) -> ApiResult:
        listing = self._known_listing(facts)
        return ApiResult(single=self._writer.full(listing, _includes(facts), None))

    def _images(self, facts: dict[str, str]) -> ApiResult:
        listing = self._known_listing(facts)
        body = b'{"count":%d,"results":%s}' % (len(listing.slots), self._writer.images(listing))
        return ApiResult(single=body)

    # -- shops, reviews, taxonomy ----------------------------------------------------------

    def _shop(self, facts: dict[str, str]) -> ApiResult:
        return ApiResult(single=self._writer.shop(self._known_shop(facts)))

    def _shop_reviews(self, facts: dict[str, str]) -> ApiResult:
        return self._reviews(self._known_shop(facts), facts, None)

    def _listing_reviews(self, facts: dict[str, str]) -> ApiResult:
        listing = self._known_listing(facts)
        return self._reviews(listing.shop, facts, listing.listing_id)

    def _reviews(self, shop: Shop, facts: dict[str, str], listing_id: int | None) -> ApiResult:
        limit, offset = _paging(facts)
        low = _whole(facts, "min_created", least=_OLDEST)
        high = _whole(facts, "max_created", least=_OLDEST)
        reviews = shop.book.between(self._world.reviewed_ids(shop), low, high)
        if listing_id is not None:
            reviews = [review for review in reviews if review.listing_id == listing_id]
        page = reviews[offset : offset + limit]
        bodies = [r.as_json(shop.shop_id, for_listing=listing_id is not None) for r in page]
        return ApiResult([msgspec.json.encode(body) for body in bodies], len(reviews))

    def _taxonomy(self, _facts: dict[str, str]) -> ApiResult:
        roots = self._world.taxonomy.roots()
        return ApiResult([msgspec.json.encode(root) for root in roots], len(roots))

    def _known_shop(self, facts: dict[str, str]) -> Shop:
        shop = self._world.shops.get(_whole(facts, "shop_id", least=1) or 0)
        if shop is None or shop.gone:
            raise RefusedError(404, f"Could not find a Shop with shop_id = {facts['shop_id']}")
        return shop

    def _known_listing(self, facts: dict[str, str]) -> Listing:
        listing = self._world.by_id.get(_whole(facts, "listing_id", least=1) or 0)
        if listing is None or not listing.visible:
            raise RefusedError(404, f"Could not find listing {facts['listing_id']}")
        return listing


def _whole(facts: dict[str, str], name: str, *, least: int, most: int = 2**63 - 1) -> int | None:
    raw = facts.get(name, "")
    if raw == "":
        return None
    if not re.fullmatch(r"-?\d{1,19}", raw):
        raise RefusedError(400, f"Expected int value for '{name}' (got {raw[:40]})")
    if not least <= int(raw) <= most:
        raise RefusedError(400, f"Invalid value for '{name}': must be between {least} and {most}")
    return int(raw)


def _number(facts: dict[str, str], name: str) -> float | None:
    raw = facts.get(name, "")
    if raw == "":
        return None
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RefusedError(400, f"Expected float value for '{name}' (got {raw[:40]})")
    return value


def _paging(facts: dict[str, str]) -> tuple[int, int]:
    limit = _whole(facts, "limit", least=1, most=100)
    offset = _whole(facts, "offset", least=0, most=_OFFSET_CAP)
    return 25 if limit is None else limit, offset or 0


def _sort(facts: dict[str, str]) -> str:
    sort_on = facts.get("sort_on") or "created"
    if sort_on not in SORTS:
        raise RefusedError(400, f"Invalid sort_on '{sort_on[:40]}': one of {', '.join(SORTS)}")
    return sort_on


def _descending(facts: dict[str, str]) -> bool:
    order = facts.get("sort_order") or "desc"
    if order not in _ORDERS:
        raise RefusedError(400, f"Invalid sort_order '{order[:40]}'")
    return _ORDERS[order]


def _currency(facts: dict[str, str]) -> str | None:
    currency = facts.get("currency") or None
    if currency is not None and currency not in USD_RATES:
        raise RefusedError(400, f"Invalid currency '{currency[:40]}'")
    return currency


def _includes(facts: dict[str, str]) -> frozenset[str]:
    names = _commas(facts.get("includes", ""))
    unknown = [name for name in names if name not in INCLUDES]
    if unknown:
        raise RefusedError(400, f"Invalid includes '{unknown[0][:40]}'")
    return frozenset(names)


def _ids(raw: str) -> list[int]:
    names = _commas(raw)
    if not 1 <= len(names) <= _BATCH_CAP:
        raise RefusedError(400, f"listing_ids needs 1 to {_BATCH_CAP} ids (got {len(names)})")
    return [_whole({"listing_ids": name}, "listing_ids", least=1) or 0 for name in names]


def _commas(raw: str) -> list[str]:
    return [piece for piece in _stripped(raw.split(",")) if piece]


def _stripped(pieces: Iterable[str]) -> Iterable[str]:
    return (piece.strip() for piece in pieces)
