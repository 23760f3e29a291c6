"""Encodes listings, images and shops like Etsy's API.

Fields that are not in a listing's dataclass are derived from its id. Encoded JSON is cached as
bytes by version, so a page is a join.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from furnisync.sandbox.prng import mix
from furnisync.sandbox.world.money import convert, money_json
from furnisync.sandbox.world.shop_objects import shop_json
from furnisync.sandbox.world.taxonomy import OTHER_LEAVES
from furnisync.sandbox.world.texts import MATERIALS, description_of, tags_of, title_of
from furnisync.sandbox.world.world import RUN_SECONDS, image_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from furnisync.sandbox.pictures.pictures import Pictures
    from furnisync.sandbox.world.world import Listing, Shop, World

__all__ = ["INCLUDES", "Writer", "image_path"]

INCLUDES = ("Images", "Shop", "User", "Translations", "Videos", "Personalization", "BuyerPrice")

_CACHE_ENTRIES = 40_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_PAIRS = [a + b for a in _LETTERS for b in _LETTERS]
_WHEN = ("made_to_order", "2020_2026", "2010_2019", "2000_2006", "1970s", "1960s", "before_1700")
_LANGUAGE_CODES = ("en-US", "en-GB", "de", "fr", "ja", "es", "it", "nl", "pl", "pt", "ru", "sv")

encode = msgspec.json.encode


def image_path(shop_id: int, image_id: int, size: str) -> str:
    """Return the path of an image's URL; the CDN serves only this one."""
    before, after = _around_size(shop_id, image_id)
    return f"{before}{size}{after}"


def _around_size(shop_id: int, image_id: int) -> tuple[str, str]:
    bits = mix(image_id, 3)
    suffix = _PAIRS[bits % 1296] + _PAIRS[(bits >> 12) % 1296]
    folder = f"/{shop_id}/r/il/{bits >> 40 & 0xFFFFFF:06x}/{image_id}"
    return f"{folder}/il_", f".{image_id}_{suffix}.jpg"


class Writer:
    """Encodes the world as the bytes that the API sends."""

    def __init__(
        self, world: World, pictures: Pictures, cdn_host: str, now: Callable[[], float]
    ) -> None:
        self._world = world
        self._pictures = pictures
        self._cdn_host = cdn_host
        self._now = now
        self._plain: dict[int, tuple[int, bytes]] = {}
        self._extra: dict[int, tuple[int, bytes]] = {}
        self._images: dict[int, tuple[int, bytes]] = {}
        self._shops: dict[int, tuple[tuple[int, int], bytes]] = {}

    # -- whole answers ---------------------------------------------------------------------

    def plain(self, listing: Listing, currency: str | None = None) -> bytes:
        """Return a listing in the form of the two lists of active listings."""
        body = self._kept(self._plain, listing, listing_json)
        if currency is None:
            return body
        return body[:-1] + b',"converted_price":' + _converted(listing, currency) + b"}"

    def full(self, listing: Listing, includes: frozenset[str], currency: str | None) -> bytes:
        """Return a listing in the form of batch and getListing."""
        extra = self._kept(self._extra, listing, _extra_json)
        parts = [self.plain(listing, currency)[:-1], b",", extra[1:-1]]
        if "Images" in includes:
            parts += (b',"images":', self.images(listing))
        if "Shop" in includes:
            parts += (b',"shop":', self.shop(listing.shop))
        for name in sorted(includes - {"Images", "Shop"}):
            parts += (b",", encode(_include_json(listing, name, currency))[1:-1])
        return b"".join([*parts, b"}"])

    def images(self, listing: Listing) -> bytes:
        """Return a listing's images as a JSON array."""
        return self._kept(self._images, listing, self._images_json)

    def shop(self, shop: Shop) -> bytes:
        """Return a shop; its review figures change with the day."""
        key = (shop.version, int(self._now() // 86_400))
        kept = self._shops.get(shop.shop_id)
        if kept and kept[0] == key:
            return kept[1]
        figures = shop.book.last_year(self._world.reviewed_ids(shop), self._now())
        body = encode(shop_json(shop, figures))
        self._shops[shop.shop_id] = (key, body)
        return body

    def warm(self, listing: Listing) -> None:
        """Encode the listing before it is requested."""
        self.plain(listing)
        self.images(listing)
        self._kept(self._extra, listing, _extra_json)

    def image_url(self, shop_id: int, image_id: int, size: str) -> str:
        """Return the URL of an image."""
        return f"http://{self._cdn_host}{image_path(shop_id, image_id, size)}"

    # -- parts -----------------------------------------------------------------------------

    def _kept(
        self,
        cache: dict[int, tuple[int, bytes]],
        listing: Listing,
        make: Callable[[Listing], Any],
    ) -> bytes:
        kept = cache.get(listing.serial)
        if kept and kept[0] == listing.version:
            return kept[1]
        if len(cache) >= _CACHE_ENTRIES:
            cache.clear()
        body = encode(make(listing))
        cache[listing.serial] = (listing.version, body)
        return body

    def _images_json(self, listing: Listing) -> list[dict[str, Any]]:
        title = title_of(listing)[:40]
        ranked = enumerate(listing.slots, 1)
        return [self._image_json(listing, slot, rank, title) for rank, slot in ranked]

    def _image_json(self, listing: Listing, slot: int, rank: int, title: str) -> dict[str, Any]:
        image_id = image_id_of(listing.serial, slot)
        bits = mix(image_id, 8)
        width, height = self._pictures.full_size(image_id)
        red, green, blue = bits & 255, bits >> 8 & 255, bits >> 16 & 255
        known = bits >> 24 & 63  # 0: Etsy has not analyzed the image yet
        body = {
            "listing_id": listing.listing_id,
            "listing_image_id": image_id,
            "hex_code": f"{red:02X}{green:02X}{blue:02X}" if known else None,
            "red": red if known else None,
            "green": green if known else None,
            "blue": blue if known else None,
            "hue": (bits >> 32) % 360 if known else None,
            "saturation": (bits >> 41) % 101 if known else None,
            "brightness": (bits >> 48) % 101 if known else None,
            "is_black_and_white": bits % 50 == 0 if known else None,
            "creation_tsz": listing.original + slot,
            "created_timestamp": listing.original + slot,
            "rank": rank,
            "full_height": height if known else None,
            "full_width": width if known else None,
            "alt_text": None if bits % 3 else f"photo {rank} of “{title}”",
        }
        before, after = _around_size(listing.shop.shop_id, image_id)
        before = f"http://{self._cdn_host}{before}"
        for size in ("75x75", "170x135", "570xN", "fullxfull"):
            body[f"url_{size}"] = f"{before}{size}{after}"
        return body


def listing_json(listing: Listing) -> dict[str, Any]:
    """Return the listing without the fields that only batch sends."""
    shop = listing.shop
    random = Random(listing.listing_id * 31 + 7)
    body: dict[str, Any] = {
        "listing_id": listing.listing_id,
        "user_id": shop.user_id,
        "shop_id": shop.shop_id,
        "title": title_of(listing),
        "description": description_of(random),
        "state": listing.state,
        **_times_json(listing),
        "state_timestamp": _maybe(random, 0.05, listing.state_changed),
        "quantity": listing.quantity,
        "shop_section_id": _maybe(random, 0.3, shop.shop_id + 20_000_000),
        "featured_rank": random.choice((-1, -1, -1, 1, 2)),
        "url": f"https://www.etsy.com/listing/{listing.listing_id}/item",
        "num_favorers": listing.favorers,
        "non_taxable": False,
        "is_taxable": True,
        "is_customizable": random.random() < 0.4,
        "is_personalizable": random.random() < 0.2,
        "listing_type": random.choices(("physical", "download", "both"), (95, 4, 1))[0],
        "tags": tags_of(random),
        "materials": random.sample(MATERIALS, random.randint(0, 4)),
        "shipping_profile_id": _maybe(random, 0.05, 100_000_000_000 + listing.listing_id),
        "return_policy_id": _maybe(random, 0.1, 1_000_000_000 + shop.shop_id),
        "has_variations": random.random() < 0.5,
        "should_auto_renew": random.random() < 0.7,
        "is_private": False,
        "style": random.sample(("Modern", "Rustic", "Boho"), random.randint(0, 2)),
        "file_data": "" if random.random() < 0.9 else None,
        "language": _maybe(random, 0.03, random.choice(("en-US", "de", "fr", "ja", "he"))),
        "price": _price_json(listing),
        "taxonomy_id": listing.taxonomy_id,
        "suggested_title": None,
        "some_new_field": {"added_by": "etsy", "values": [1, None]},
    }
    body.update(_making_json(random))
    body.update(_measures_json(random))
    body.update(listing.overrides)
    return _with_gaps(body, random)


def _times_json(listing: Listing) -> dict[str, Any]:
    return {
        "creation_timestamp": listing.created,
        "created_timestamp": listing.created,
        "ending_timestamp": listing.created + RUN_SECONDS,
        "original_creation_timestamp": listing.original,
        "last_modified_timestamp": listing.updated,
        "updated_timestamp": listing.updated,
    }


def _making_json(random: Random) -> dict[str, Any]:
    fast = random.randint(1, 5)
    known = random.random() < 0.9
    return {
        "processing_min": fast if known else None,
        "processing_max": fast + random.randint(0, 30) if known else None,
        "who_made": _maybe(random, 0.03, random.choice(("i_did", "someone_else", "collective"))),
        "when_made": _maybe(random, 0.03, random.choice(_WHEN)),
        "is_supply": _maybe(random, 0.03, value=random.random() < 0.02),
        "readiness_state_id": _maybe(
            random, 0.5, random.randint(1_400_000_000_000, 1_500_000_000_000)
        ),
    }


def _measures_json(random: Random) -> dict[str, Any]:
    weighed, measured = random.random() < 0.6, random.random() < 0.7
    sides = [round(random.uniform(0.5, 90), random.choice((0, 1, 2))) for _ in range(3)]
    return {
        "item_weight": round(random.uniform(0, 120), 2) if weighed else None,
        "item_weight_unit": random.choice(("oz", "lb", "g", "kg")) if weighed else None,
        "item_length": sides[0] if measured else None,
        "item_width": sides[1] if measured else None,
        "item_height": sides[2] if measured and random.random() < 0.9 else None,
        "item_dimensions_unit": random.choice(("in", "ft", "mm", "cm", "m")) if measured else None,
    }


def _with_gaps(body: dict[str, Any], random: Random) -> dict[str, Any]:
    """Sometimes leave out fields that Etsy sometimes leaves out."""
    if random.random() < 0.8:
        body["rich_description"] = None
    for name in (
        "suggested_title",
        "readiness_state_id",
        "style",
        "created_timestamp",
        "item_width",
    ):
        if random.random() < 0.02:
            body.pop(name, None)
    if body["taxonomy_id"] in OTHER_LEAVES and random.random() < 0.1:
        body["taxonomy_id"] = None
    return body


def _extra_json(listing: Listing) -> dict[str, Any]:
    random = Random(listing.listing_id * 17 + 3)
    partners = [
        {
            "production_partner_id": 5_000_000_000 + random.randrange(10**6),
            "partner_name": random.choice(("Holz & Söhne", "Sawmill Nº 5")),
            "location": random.choice(("Ulm, Germany", "Kraków, Poland")),
        }
        for _ in range(random.choice((0, 0, 0, 0, 1, 2)))
    ]
    skus = [f"SKU-{listing.listing_id % 9973}-{n}" for n in range(random.choice((0, 1, 1, 3)))]
    return {"views": listing.views, "skus": skus, "production_partners": partners}


def _include_json(listing: Listing, name: str, currency: str | None) -> dict[str, Any]:
    if name == "User":
        user = {"user_id": listing.shop.user_id, "first_name": None, "last_name": None}
        return {"user": {**user, "primary_email": None, "image_url_75x75": None}}
    if name == "Translations":
        return {"translations": dict.fromkeys(_LANGUAGE_CODES)}
    if name == "Videos":
        return {"videos": []}
    if name == "Personalization":
        return {"personalization": {"personalization_questions": []}}
    price = convert(listing.price.usd, currency or "USD")
    return {
        "buyer_price": {
            "base_price": price,
            "original_price": price,
            "shipping_cost": None,
            "is_free_shipping": False,
            "has_discount": False,
        }
    }


def _converted(listing: Listing, currency: str) -> bytes:
    if currency == listing.price.currency:
        return encode(_price_json(listing))
    return encode(convert(listing.price.usd, currency))


def _price_json(listing: Listing) -> dict[str, Any]:
    return money_json(listing.price.amount, listing.price.divisor, listing.price.currency)


def _maybe(random: Random, share_null: float, value: Any) -> Any:
    return None if random.random() < share_null else value
