"""The world of the sandbox: shops, listings and the rules by which they change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from furnisync.sandbox.prng import mix, share_of
from furnisync.sandbox.world.money import to_usd
from furnisync.sandbox.world.search import Query, Row, SearchIndex
from furnisync.sandbox.world.texts import title_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from furnisync.sandbox.world.reviews import ReviewBook
    from furnisync.sandbox.world.taxonomy import Taxonomy

__all__ = ["RUN_SECONDS", "SLOTS", "Listing", "Price", "Shop", "World", "image_id_of"]

RUN_SECONDS = 121 * 86_400  # a listing is active for four months

# The newest ids need more than 32 bits, older ones do not: code with 32 bits fails at once.
_EPOCH_ID = 4_300_000_000
_IDS_A_SECOND = 5.2

# An image id contains its listing and slot, so that the CDN needs no table of millions of images.
# The base makes ids cross 32 bits.
SLOTS = 20
_IMAGE_BASE = 4_000_000_000
_IMAGE_STRIDE = 100_003
_SLOT_STRIDE = 4_999


def image_id_of(serial: int, slot: int) -> int:
    """Return the id of the image in `slot` of listing number `serial`."""
    jitter = mix(serial, slot) % _SLOT_STRIDE
    return _IMAGE_BASE + serial * _IMAGE_STRIDE + slot * _SLOT_STRIDE + jitter


@dataclass(slots=True)
class Shop:
    """One shop; its other fields are derived from its id when it is encoded as JSON."""

    shop_id: int
    user_id: int
    name: str
    country: str
    currency: str
    created: int
    updated: int
    favorers: int
    sold: int
    book: ReviewBook
    searchable: bool = True
    vacation: bool = False
    gone: bool = False
    serials: list[int] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    active_count: int = 0
    first_ids: list[int] = field(default_factory=list)

    @property
    def findable(self) -> bool:
        """Whether the search shows this shop's listings."""
        return self.searchable and not self.vacation and not self.gone


@dataclass(slots=True)
class Price:
    """A price in its own currency."""

    amount: int
    divisor: int
    currency: str

    @property
    def usd(self) -> float:
        """The price in dollars, as in the search."""
        return to_usd(self.amount, self.divisor, self.currency)


@dataclass(slots=True)
class Listing:
    """One listing; its other fields are derived from its id when it is encoded as JSON."""

    serial: int
    listing_id: int
    shop: Shop
    taxonomy_id: int
    price: Price
    state: str
    created: int
    original: int
    updated: int
    state_changed: int
    quantity: int
    favorers: int
    views: int
    slots: tuple[int, ...]
    born_at: float
    ended_at: float | None = None
    removed: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    version: int = 0

    @property
    def visible(self) -> bool:
        """Whether batch and getListing return the listing."""
        return not self.removed and self.state != "draft" and not self.shop.gone

    @property
    def active(self) -> bool:
        """Whether the listing is for sale."""
        return self.state == "active" and not self.removed

    @property
    def findable(self) -> bool:
        """Whether the search shows the listing."""
        return self.active and self.shop.findable

    @property
    def image_ids(self) -> list[int]:
        """The ids of its images in their order."""
        return [image_id_of(self.serial, slot) for slot in self.slots]


class World:
    """All shops and listings, and their index."""

    def __init__(self, seed: int, epoch: int, taxonomy: Taxonomy, *, ties_reversed: bool) -> None:
        self.seed = seed
        self.epoch = epoch
        self.taxonomy = taxonomy
        self.shops: dict[int, Shop] = {}
        self.listings: list[Listing] = []
        self.by_id: dict[int, Listing] = {}
        self.version = 0
        self._furniture = {node.id for node in taxonomy.furniture()}
        self._index = SearchIndex(taxonomy, ties_reversed=ties_reversed)
        self._live: list[int] = []
        self._live_at: dict[int, int] = {}
        self._counted: set[int] = set()

    # -- growing ---------------------------------------------------------------------------

    def fresh_id(self, original: int) -> int:
        """Return an unused listing id; ids grow with time and reach 32 bits, as Etsy's do.

        They depend on the age and not on the date, so that a seed has the same ids in every year.
        """
        listing_id = _EPOCH_ID + int((original - self.epoch) * _IDS_A_SECOND)
        while listing_id in self.by_id:
            listing_id += 1
        return listing_id

    def place(self, listing: Listing) -> None:
        """Add a new listing."""
        if listing.serial != len(self.listings):
            raise ValueError("listings are numbered in the order in which they are added")
        self.listings.append(listing)
        self.by_id[listing.listing_id] = listing
        listing.shop.serials.append(listing.serial)
        self.note(listing)

    def note(self, listing: Listing) -> None:
        """Update the index and the caches after a change of the listing."""
        listing.version += 1
        self.version += 1
        findable = listing.findable
        self._note_live(listing.serial, findable=findable)
        self._note_count(listing)
        row = Row(
            findable,
            listing.taxonomy_id,
            listing.shop.shop_id,
            listing.listing_id,
            listing.price.usd,
            listing.created,
            listing.updated,
            share_of(self.seed, listing.listing_id, 77),
        )
        self._index.put(listing.serial, row)

    def note_shop(self, shop: Shop) -> None:
        """Update all listings of a shop after a change of it."""
        shop.version += 1
        for serial in shop.serials:
            self.note(self.listings[serial])

    def note_taxonomy(self) -> None:
        """Update the search after a change of the tree."""
        self._furniture = {node.id for node in self.taxonomy.furniture()}
        self._index.forget_taxonomy()

    def _note_live(self, serial: int, *, findable: bool) -> None:
        at = self._live_at.get(serial)
        if findable and at is None:
            self._live_at[serial] = len(self._live)
            self._live.append(serial)
        elif not findable and at is not None:
            last = self._live.pop()
            del self._live_at[serial]
            if last != serial:
                self._live[at] = last
                self._live_at[last] = at

    def _note_count(self, listing: Listing) -> None:
        counted = listing.serial in self._counted
        if listing.active and not counted:
            self._counted.add(listing.serial)
        elif counted and not listing.active:
            self._counted.discard(listing.serial)
        else:
            return
        listing.shop.active_count += 1 if listing.active else -1
        listing.shop.version += 1

    # -- reading ---------------------------------------------------------------------------

    def find(self, query: Query) -> Sequence[int]:
        """Return the serials of the listings that a search finds, in order."""
        return self._index.find(query, self._says)

    def image_owner(self, image_id: int) -> tuple[Listing, int] | None:
        """Return the listing and slot of an image id, or None for an id that never existed."""
        serial, rest = divmod(image_id - _IMAGE_BASE, _IMAGE_STRIDE)
        slot = rest // _SLOT_STRIDE
        if not 0 <= serial < len(self.listings) or slot >= SLOTS:
            return None
        if image_id_of(serial, slot) != image_id:
            return None
        return self.listings[serial], slot

    def live_count(self) -> int:
        """Return how many listings the search shows."""
        return len(self._live)

    def pick_live(self, random: Random) -> Listing | None:
        """Return a random listing that the search shows."""
        return self.listings[self._live[random.randrange(len(self._live))]] if self._live else None

    def is_furniture(self, listing: Listing) -> bool:
        """Whether the listing is below Furniture."""
        return listing.taxonomy_id in self._furniture

    def reviewed_ids(self, shop: Shop) -> list[int]:
        """Return the listings that can have reviews: those of the shop's first days.

        Reviews are generated at their first use. With later listings among them, they would
        depend on the time of that use.
        """
        return shop.first_ids or [self.listings[s].listing_id for s in shop.serials[:1]]

    def _says(self, serial: int, query: Query) -> bool:
        listing = self.listings[serial]
        if query.location and query.location.casefold() != listing.shop.country.casefold():
            return False
        title = title_of(listing).casefold()
        return all(word in title for word in query.keywords.casefold().split())
