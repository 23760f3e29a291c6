"""A shop's reviews: generated from the seed at the first use, then growing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from random import Random
from typing import Any

from furnisync.sandbox.prng import mix
from furnisync.sandbox.world.texts import review_text

__all__ = ["Review", "ReviewBook"]

_YEAR = 365 * 86_400
_LANGUAGES = ("en", "en", "en", "de", "fr", "es", "he")


@dataclass(order=True, frozen=True, slots=True)
class Review:
    """One review; the order of the fields is the order of reviews, oldest first."""

    created: int
    transaction_id: int
    listing_id: int
    rating: int
    buyer: int | None
    text: str
    language: str
    image_url: str | None
    updated: int
    hides_transaction: bool = False

    def as_json(self, shop_id: int, *, for_listing: bool = False) -> dict[str, Any]:
        """Return the review in the form of getReviewsByShop or getReviewsByListing."""
        body: dict[str, Any] = {
            "shop_id": shop_id,
            "listing_id": self.listing_id,
            "transaction_id": self.transaction_id,
            "buyer_user_id": self.buyer,
            "rating": self.rating,
            "review": self.text,
            "language": self.language,
            "image_url_fullxfull": self.image_url,
            "create_timestamp": self.created,
            "created_timestamp": self.created,
            "update_timestamp": self.updated,
            "updated_timestamp": self.updated,
        }
        if for_listing or self.hides_transaction:
            del body["transaction_id"]
        # An anonymous buyer is absent in some answers and null in others.
        if for_listing or (self.buyer is None and self.transaction_id % 2):
            del body["buyer_user_id"]
        if self.image_url is None and self.transaction_id % 3:
            del body["image_url_fullxfull"]
        return body


class ReviewBook:
    """All reviews of one shop."""

    def __init__(self, seed: int, shop_id: int, planned: int, span: tuple[int, int]) -> None:
        self._seed = mix(seed, shop_id, 5)
        self._shop_id = shop_id
        self._planned = planned
        self._span = span
        self._reviews: list[Review] | None = None
        self._added = 0

    def all(self, listing_ids: list[int]) -> list[Review]:
        """Return every review, oldest first; the first use generates them for `listing_ids`."""
        if self._reviews is None:
            self._reviews = self._first(listing_ids)
        return self._reviews

    def between(
        self, listing_ids: list[int], min_created: int | None, max_created: int | None
    ) -> list[Review]:
        """Return the reviews of a span of seconds, both ends included, newest first."""
        reviews = self.all(listing_ids)
        low, high = 0, len(reviews)
        if min_created is not None:
            low = bisect_left(reviews, min_created, key=lambda r: r.created)
        if max_created is not None:
            high = bisect_right(reviews, max_created, key=lambda r: r.created)
        return reviews[low:high][::-1]

    def last_year(self, listing_ids: list[int], now: float) -> tuple[int, float | None]:
        """Return count and average of the last year, as in a shop's object."""
        ratings = [r.rating for r in self.between(listing_ids, int(now) - _YEAR, int(now))]
        return len(ratings), round(sum(ratings) / len(ratings), 4) if ratings else None

    def add(self, listing_ids: list[int], created: int, count: int) -> list[Review]:
        """Add `count` new reviews in the second `created`."""
        reviews = self.all(listing_ids)
        if not listing_ids:
            raise ValueError("a shop without listings has no reviews")
        new = []
        for _ in range(count):
            self._added += 1
            random = Random(mix(self._seed, self._added, 9))
            number = self._planned + self._added
            new.append(self._write(random, created, number, listing_ids))
        for review in new:
            insort(reviews, review)
        return new

    def _first(self, listing_ids: list[int]) -> list[Review]:
        random = Random(self._seed)
        start, end = self._span
        reviews: list[Review] = []
        if not listing_ids:
            return reviews
        for number in range(self._planned):
            if reviews and random.random() < 0.08:
                created = reviews[-1].created  # several in one second
            else:
                created = start + int((end - start) * random.random() ** 0.6)
            reviews.append(self._write(random, created, number, listing_ids))
        return sorted(reviews)

    def _write(self, random: Random, created: int, number: int, listing_ids: list[int]) -> Review:
        transaction_id = self._shop_id * 1_000_000 + number * 7
        has_image = random.random() < 0.1
        url = f"https://i.etsystatic.com/iap/{number}/il_fullxfull.{transaction_id}.jpg"
        return Review(
            created=created,
            transaction_id=transaction_id,
            listing_id=random.choice(listing_ids),
            rating=random.choices((5, 4, 3, 2, 1), (80, 10, 4, 3, 3))[0],
            buyer=None if random.random() < 0.1 else random.randint(10_000, 6_000_000_000),
            text=review_text(random),
            language=random.choice(_LANGUAGES),
            image_url=url if has_image else None,
            updated=created + (86_400 if random.random() < 0.05 else 0),
            hides_transaction=random.random() < 0.02,
        )
