"""Single changes of the world, random ones (churn) or named ones (tests)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from furnisync.sandbox.world.world import SLOTS, Price

if TYPE_CHECKING:
    from furnisync.sandbox.world.generate import Maker
    from furnisync.sandbox.world.reviews import Review
    from furnisync.sandbox.world.world import Listing, Shop, World

__all__ = ["Changes"]


class Changes:
    """The changes of shops and listings, each at a given time."""

    def __init__(self, world: World, maker: Maker) -> None:
        self._world = world
        self._maker = maker

    def create(self, shop: Shop, now: float, **choices: Any) -> Listing:
        """Create a listing."""
        listing = self._maker.listing(shop, born_at=now, **choices)
        self._touch_shop(shop, now)
        return listing

    def end(self, listing: Listing, state: str, now: float) -> None:
        """End a listing: sold_out, expired, inactive, or removed completely."""
        listing.removed = state == "removed"
        listing.state = "inactive" if listing.removed else state
        if state == "sold_out":
            listing.quantity = 0
            listing.shop.sold += 1
        listing.ended_at = now
        self._modified(listing, now, state_too=True)

    def bring_back(self, listing: Listing, now: float) -> None:
        """Reactivate an ended listing."""
        listing.removed, listing.state, listing.ended_at = False, "active", None
        listing.quantity = max(1, listing.quantity)
        listing.created = int(now)
        self._modified(listing, now, state_too=True)

    def renew(self, listing: Listing, now: float) -> None:
        """Renew a listing: it counts as created now."""
        listing.created = int(now)
        self._modified(listing, now)

    def reprice(self, listing: Listing, amount: int | None, now: float) -> None:
        """Give a listing another price, in its currency."""
        old = listing.price
        if amount is None:
            listing.price = self._maker.price(old.currency)
        else:
            listing.price = Price(amount, old.divisor, old.currency)
        self._modified(listing, now)

    def edit(self, listing: Listing, now: float, fields: dict[str, Any] | None = None) -> None:
        """Set named fields of the listing; without any, increase its views."""
        own = {"quantity": "quantity", "num_favorers": "favorers", "views": "views"}
        if fields is None:
            listing.favorers += 1
            listing.views += 25
            self._world.note(listing)
            return
        for name, value in fields.items():
            if name in own:
                setattr(listing, own[name], value)
            elif name == "taxonomy_id":
                listing.taxonomy_id = value
            else:
                listing.overrides[name] = value
        self._modified(listing, now)

    def set_images(self, listing: Listing, add: int, drop: list[int], now: float) -> None:
        """Drop images by id and add new ones at the end."""
        ids = listing.image_ids
        kept = [s for s, image_id in zip(listing.slots, ids, strict=True) if image_id not in drop]
        first = max(listing.slots, default=-1) + 1
        listing.slots = (*kept, *range(first, min(first + add, SLOTS)))
        self._modified(listing, now)

    def add_reviews(self, shop: Shop, count: int, created: float) -> list[Review]:
        """Add reviews, all in one second."""
        shop.sold += count
        new = shop.book.add(self._world.reviewed_ids(shop), int(created), count)
        self._touch_shop(shop, created)
        return new

    def set_shop(self, shop: Shop, fields: dict[str, Any], now: float) -> None:
        """Set a shop's fields; `searchable`, `is_vacation` and `gone` move its listings too."""
        own = {"searchable": "searchable", "is_vacation": "vacation", "gone": "gone"}
        own |= {"num_favorers": "favorers", "transaction_sold_count": "sold"}
        for name, value in fields.items():
            if name in own:
                setattr(shop, own[name], value)
            else:
                shop.overrides[name] = value
        shop.updated = int(now)
        self._world.note_shop(shop)

    def _modified(self, listing: Listing, now: float, *, state_too: bool = False) -> None:
        listing.updated = int(now)
        if state_too:
            listing.state_changed = int(now)
        self._world.note(listing)
        self._touch_shop(listing.shop, now)

    def _touch_shop(self, shop: Shop, now: float) -> None:
        shop.updated = int(now)
        shop.version += 1
