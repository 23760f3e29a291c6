"""Changes that a test requests by name.

{"op": "create", "shop_id": 1, "n": 3, "taxonomy_id": 977, "amount": 2500, "images": 2}
{"op": "end", "listing_ids": [1, 2], "state": "sold_out" | "expired" | "inactive" | "removed"}
{"op": "bring_back" | "renew", "listing_ids": [1]}
{"op": "reprice", "listing_ids": [1], "amount": 990}
{"op": "edit", "listing_ids": [1], "fields": {"title": "...", "views": 7}}
{"op": "images", "listing_ids": [1], "add": 2, "drop": [image_id]}
{"op": "add_reviews", "shop_id": 1, "n": 5, "created": unix seconds}
{"op": "shop", "shop_id": 1, "fields": {"searchable": false, "gone": true, ...}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from furnisync.sandbox.world.money import DIVISORS
from furnisync.sandbox.world.world import Price

if TYPE_CHECKING:
    from collections.abc import Callable

    from furnisync.sandbox.world.changes import Changes
    from furnisync.sandbox.world.world import Listing, World

__all__ = ["NamedChanges"]

_STATES = ("sold_out", "expired", "inactive", "draft", "removed")


class NamedChanges:
    """Reads and applies changes."""

    def __init__(self, world: World, changes: Changes) -> None:
        self._world = world
        self._changes = changes
        self._ops: dict[str, Callable[[dict[str, Any], float], dict[str, Any]]] = {
            "create": self._create,
            "add_reviews": self._add_reviews,
            "shop": self._shop,
        }

    def apply(self, change: dict[str, Any], now: float) -> dict[str, Any]:
        """Apply one change, and return the ids that it made or touched."""
        op = change["op"]
        if op in self._ops:
            return self._ops[op](change, now)
        listings = [self._world.by_id[int(i)] for i in change["listing_ids"]]
        for listing in listings:
            self._change_listing(op, listing, change, now)
        return {"listing_ids": [listing.listing_id for listing in listings]}

    def _change_listing(
        self, op: str, listing: Listing, change: dict[str, Any], now: float
    ) -> None:
        if op == "end":
            state = change.get("state", "sold_out")
            if state not in _STATES:
                raise ValueError(f"no such state: {state}")
            self._changes.end(listing, state, now)
        elif op == "bring_back":
            self._changes.bring_back(listing, now)
        elif op == "renew":
            self._changes.renew(listing, now)
        elif op == "reprice":
            self._changes.reprice(listing, change.get("amount"), now)
        elif op == "edit":
            self._changes.edit(listing, now, change.get("fields"))
        elif op == "images":
            self._changes.set_images(listing, change.get("add", 0), change.get("drop", []), now)
        else:
            raise ValueError(f"no such change: {op}")

    def _create(self, change: dict[str, Any], now: float) -> dict[str, Any]:
        shop = self._world.shops[change["shop_id"]]
        choices: dict[str, Any] = {
            k: change[k] for k in ("taxonomy_id", "state", "images") if k in change
        }
        made = []
        for _ in range(change.get("n", 1)):
            if "amount" in change:
                divisor = DIVISORS.get(shop.currency, 100)
                choices["price"] = Price(int(change["amount"]), divisor, shop.currency)
            made.append(self._changes.create(shop, now, **choices))
        return {"listing_ids": [listing.listing_id for listing in made]}

    def _add_reviews(self, change: dict[str, Any], now: float) -> dict[str, Any]:
        shop = self._world.shops[change["shop_id"]]
        created = change.get("created", now)
        new = self._changes.add_reviews(shop, change.get("n", 1), created)
        return {"transaction_ids": [review.transaction_id for review in new]}

    def _shop(self, change: dict[str, Any], now: float) -> dict[str, Any]:
        shop = self._world.shops[change["shop_id"]]
        self._changes.set_shop(shop, change["fields"], now)
        return {"shop_id": shop.shop_id}
