"""The truth: the actual content of the world, line by line, to compare with fetched data."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from furnisync.sandbox.pictures.pictures import SIZES
from furnisync.sandbox.server.cdn_faults import WHOLE_BODIES, ImageRequest, faulty_body
from furnisync.sandbox.world.objects import image_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from furnisync.sandbox.pictures.pictures import Pictures
    from furnisync.sandbox.server.faults import Faults
    from furnisync.sandbox.world.objects import Writer
    from furnisync.sandbox.world.world import Listing, Shop, World

__all__ = ["Truth"]

encode = msgspec.json.encode


class Truth:
    """Encodes the world as JSON lines."""

    def __init__(self, world: World, writer: Writer, pictures: Pictures, faults: Faults) -> None:
        self._world = world
        self._writer = writer
        self._pictures = pictures
        self._faults = faults

    def listings(self, *, full: bool) -> Iterator[bytes]:
        """Yield every listing, ended ones too; `full` adds the answer of batch as "api"."""
        for listing in self._world.listings:
            line = self._listing(listing)
            if full and listing.visible:
                line["api"] = msgspec.Raw(self._writer.full(listing, frozenset(), None))
            yield encode(line)

    def images(self, size: str, *, digests: bool) -> Iterator[bytes]:
        """Yield every image of every listing, with the digest of the file that the CDN serves.

        `kind` is jpeg, png, webp or gif for an image, "gone" for a permanent 404 or 410, and
        otherwise the name of its permanent fault. Temporary faults are not in the truth.
        """
        if size not in SIZES:
            raise ValueError(f"no such size: {size}")
        for listing in self._world.listings:
            for rank, image_id in enumerate(listing.image_ids, 1):
                yield encode(self._image(listing, image_id, rank, size, digests=digests))

    def shops(self) -> Iterator[bytes]:
        """Yield every shop: "api" is the answer of getShop, the other fields are not in it."""
        for shop in self._world.shops.values():
            yield encode(self._shop(shop))

    def reviews(self, shop_id: int) -> Iterator[bytes]:
        """Yield every review of a shop in the form of the API, oldest first.

        `truth_transaction_id` is set even if the API leaves the id out.
        """
        shop = self._world.shops[shop_id]
        for review in shop.book.all(self._world.reviewed_ids(shop)):
            line = review.as_json(shop_id)
            yield encode({**line, "truth_transaction_id": review.transaction_id})

    def _listing(self, listing: Listing) -> dict[str, Any]:
        return {
            "listing_id": listing.listing_id,
            "shop_id": listing.shop.shop_id,
            "taxonomy_id": listing.taxonomy_id,
            "state": "removed" if listing.removed else listing.state,
            "visible": listing.visible,
            "findable": listing.findable,
            "searchable": listing.shop.searchable,
            "is_furniture": self._world.is_furniture(listing),
            "price_usd": listing.price.usd,
            "price_amount": listing.price.amount,
            "price_divisor": listing.price.divisor,
            "currency": listing.price.currency,
            "created": listing.created,
            "updated": listing.updated,
            "quantity": listing.quantity,
            "num_favorers": listing.favorers,
            "views": listing.views,
            "born_at": listing.born_at,
            "ended_at": listing.ended_at,
            "image_ids": listing.image_ids,
        }

    def _image(
        self, listing: Listing, image_id: int, rank: int, size: str, *, digests: bool
    ) -> dict[str, Any]:
        shop_id = listing.shop.shop_id
        path = image_path(shop_id, image_id, size)
        kind, body = self._served(path, shop_id, image_id, size, digests=digests)
        return {
            "image_id": image_id,
            "listing_id": listing.listing_id,
            "shop_id": shop_id,
            "rank": rank,
            "findable": listing.findable and self._world.is_furniture(listing),
            "urls": {name: self._writer.image_url(shop_id, image_id, name) for name in SIZES},
            "size": size,
            "kind": kind,
            "bytes": None if body is None else len(body),
            "sha256": None if body is None else hashlib.sha256(body).hexdigest(),
        }

    def _served(
        self, path: str, shop_id: int, image_id: int, size: str, *, digests: bool
    ) -> tuple[str, bytes | None]:
        facts = {"shop_id": str(shop_id), "image_id": str(image_id), "size": size}
        rule = self._faults.permanent(path, facts) if self._faults.any("cdn") else None
        if rule is None or rule.do == "slow":
            return "jpeg", self._pictures.jpeg(image_id, size) if digests else None
        if rule.do in ("404", "410"):
            return "gone", None
        if rule.do not in WHOLE_BODIES or not digests:
            return rule.do, None
        whole = self._pictures.jpeg(image_id, size)
        return rule.do, faulty_body(rule, whole, self._pictures, ImageRequest(path, image_id, size))

    def _shop(self, shop: Shop) -> dict[str, Any]:
        return {
            "shop_id": shop.shop_id,
            "searchable": shop.searchable,
            "is_vacation": shop.vacation,
            "gone": shop.gone,
            "findable": shop.findable,
            "active": shop.active_count,
            "listings": len(shop.serials),
            "reviews": len(shop.book.all(self._world.reviewed_ids(shop))),
            "api": msgspec.Raw(self._writer.shop(shop)),
        }
