"""Churn: listings are created, renewed, repriced and end between the requests."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from furnisync.sandbox.world.changes import Changes
    from furnisync.sandbox.world.world import Shop, World

__all__ = ["DEFAULT_MIX", "Churn"]

DEFAULT_MIX = {"create": 0.30, "end": 0.30, "renew": 0.25, "reprice": 0.10, "edit": 0.05}

_ENDS = ("sold_out", "sold_out", "expired", "removed")


class Churn:
    """Applies random changes in the order of their times, the same ones for the same seed."""

    def __init__(
        self, world: World, changes: Changes, per_hour: float, reviews_per_hour: float, now: float
    ) -> None:
        self.per_request = 0
        self.mix = dict(DEFAULT_MIX)
        self._world = world
        self._changes = changes
        self._random = Random(world.seed + 1)
        self._shops = [s for s in world.shops.values() if s.findable and s.serials]
        self.set_rate(per_hour, reviews_per_hour, now)

    def set_rate(self, per_hour: float, reviews_per_hour: float, now: float) -> None:
        """Set the share of listings that change in an hour, and the number of new reviews."""
        self.per_hour = per_hour
        self.reviews_per_hour = reviews_per_hour
        self._next_change = self._after(now, self._changes_per_second())
        self._next_review = self._after(now, reviews_per_hour / 3600)

    def advance(self, now: float) -> int:
        """Apply the changes that are due, and return their number."""
        done = 0
        while (due := min(self._next_change, self._next_review)) <= now:
            if self._next_change <= self._next_review:
                self.change_any(due)
                self._next_change = self._after(due, self._changes_per_second())
            else:
                self._review_any(due)
                self._next_review = self._after(due, self.reviews_per_hour / 3600)
            done += 1
        return done

    def after_request(self, now: float) -> None:
        """Apply the changes after each request, so that lists shift while they are read."""
        for _ in range(self.per_request):
            self.change_any(now)

    def change_any(self, now: float) -> None:
        """Apply one change, chosen by the mix, to a random listing."""
        random = self._random
        kind = random.choices(list(self.mix), list(self.mix.values()))[0]
        listing = self._world.pick_live(random)
        if kind == "create" or listing is None:
            shop = self._any_shop(listing.shop if listing else None)
            if shop is not None:
                self._changes.create(shop, now)
        elif kind == "end":
            self._changes.end(listing, random.choice(_ENDS), now)
        elif kind == "renew":
            self._changes.renew(listing, now)
        elif kind == "reprice":
            self._changes.reprice(listing, None, now)
        else:
            self._changes.edit(listing, now)

    def _review_any(self, now: float) -> None:
        listing = self._world.pick_live(self._random)
        if listing is not None:
            self._changes.add_reviews(listing.shop, 1, now)

    def _any_shop(self, of_listing: Shop | None) -> Shop | None:
        # Shops with many listings add more; one in ten new listings is in any shop.
        if of_listing is not None and self._random.random() < 0.9:
            return of_listing
        return self._random.choice(self._shops) if self._shops else None

    def _changes_per_second(self) -> float:
        return self.per_hour * self._world.live_count() / 3600

    def _after(self, now: float, per_second: float) -> float:
        return now + self._random.expovariate(per_second) if per_second > 0 else float("inf")
