"""Which of the available fields are stored, and in which table."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from furnisync.errors import ConfigError
from furnisync.history.fields.definitions import LISTING_FIELDS, REVIEW_FIELDS, SHOP_FIELDS, Field
from furnisync.history.fields.pseudonyms import KEEP, Buyers
from furnisync.history.fields.values import Converter

KEYS: Final = {"shops": ("shop_id",), "listings": ("listing_id", "shop_id"), "reviews": ()}
"""Columns that the tables always have."""


@dataclass(frozen=True)
class Selection:
    """The stored fields of the three kinds of objects, always including those that a rule needs.

    Attributes:
        buyers: the rule for buyers' ids in stored reviews.
    """

    shops: tuple[Field, ...]
    listings: tuple[Field, ...]
    reviews: tuple[Field, ...]
    buyers: Buyers = KEEP

    @classmethod
    def of(
        cls,
        shops: Iterable[str] | None = None,
        listings: Iterable[str] | None = None,
        reviews: Iterable[str] | None = None,
        buyers: Buyers = KEEP,
    ) -> "Selection":
        """Select by the API's names; None takes the fields that the first user selected.

        Raises:
            ConfigError: a name that the API does not have.
        """
        return cls(
            _select("shops", SHOP_FIELDS, shops),
            _select("listings", LISTING_FIELDS, listings),
            _select("reviews", REVIEW_FIELDS, reviews),
            buyers,
        )

    @cached_property
    def shop_static(self) -> Converter:
        """Fields of `shops` without its keys."""
        return _part("shops", self.shops, dynamic=False)

    @cached_property
    def shop_dynamic(self) -> Converter:
        """Fields of `shops_dynamic` without its keys."""
        return _part("shops", self.shops, dynamic=True)

    @cached_property
    def listing_static(self) -> Converter:
        """Fields of `listings` without its keys."""
        return _part("listings", self.listings, dynamic=False)

    @cached_property
    def listing_dynamic(self) -> Converter:
        """Fields of `listings_dynamic` without its keys."""
        return _part("listings", self.listings, dynamic=True)

    @cached_property
    def review(self) -> Converter:
        """Fields of `reviews`."""
        return Converter(self.reviews)

    def by_table(self) -> dict[str, tuple[Field, ...]]:
        """The fields for which each table needs a column."""
        return {
            "shops": self.shop_static.fields,
            "shops_dynamic": self.shop_dynamic.fields,
            "listings": self.listing_static.fields,
            "listings_dynamic": self.listing_dynamic.fields,
            "reviews": self.review.fields,
        }


def _part(kind: str, fields: tuple[Field, ...], *, dynamic: bool) -> Converter:
    return Converter(f for f in fields if f.dynamic == dynamic and f.name not in KEYS[kind])


def _select(
    kind: str, available: tuple[Field, ...], names: Iterable[str] | None
) -> tuple[Field, ...]:
    if names is None:
        return tuple(field for field in available if field.selected)
    wanted = set(names)
    unknown = sorted(wanted - {field.name for field in available})
    if unknown:
        raise ConfigError(
            f"The {kind} of Etsy's API have no field {unknown[0]!r}: the settings can select"
            f" {', '.join(field.name for field in available)}."
        )
    return tuple(field for field in available if field.always or field.name in wanted)
