"""Deletes listings and shops from the catalog, for good.

The table `purged` has what was purged by its id, and triggers keep that out: no list, batch or
import can add it again, by any code path. What was purged for its age may return.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

PURGED: Final = """
CREATE TABLE purged (
    kind TEXT NOT NULL CHECK (kind IN ('listing', 'shop')),
    id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER shops_purged BEFORE INSERT ON shops
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'shop' AND id = NEW.shop_id)
BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER listings_purged BEFORE INSERT ON listings
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'listing' AND id = NEW.listing_id)
BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER listings_of_purged_shop BEFORE INSERT ON listings
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'shop' AND id = NEW.shop_id)
BEGIN
    INSERT INTO purged SELECT 'listing', NEW.listing_id, at FROM purged
    WHERE kind = 'shop' AND id = NEW.shop_id AND NOT EXISTS (
        SELECT 1 FROM purged WHERE kind = 'listing' AND id = NEW.listing_id);
    SELECT RAISE(IGNORE);
END;
CREATE TRIGGER listings_told_of_purged_shop AFTER UPDATE OF shop_id ON listings
WHEN NEW.shop_id IS NOT OLD.shop_id
    AND EXISTS (SELECT 1 FROM purged WHERE kind = 'shop' AND id = NEW.shop_id)
BEGIN
    INSERT INTO purged SELECT 'listing', NEW.listing_id, at FROM purged
    WHERE kind = 'shop' AND id = NEW.shop_id AND NOT EXISTS (
        SELECT 1 FROM purged WHERE kind = 'listing' AND id = NEW.listing_id);
    DELETE FROM listings WHERE listing_id = NEW.listing_id;
END;
CREATE TRIGGER images_purged BEFORE INSERT ON images
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'listing' AND id = NEW.listing_id)
BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER shops_removed AFTER DELETE ON shops BEGIN
    UPDATE counters SET value = value - 1 WHERE name = 'shops';
END;
CREATE TRIGGER listings_removed AFTER DELETE ON listings BEGIN
    UPDATE counters SET value = value - 1
    WHERE name = 'listings.' || coalesce(OLD.state, 'unknown');
END;
CREATE TRIGGER images_removed AFTER DELETE ON images BEGIN
    UPDATE counters SET value = value - 1 WHERE name = 'images.' || OLD.status;
    UPDATE counters SET value = value - coalesce(OLD.bytes, 0) WHERE name = 'images.bytes';
END;
"""
"""A migration of the catalog. `counters` had no triggers for deletes: nothing was deleted."""

PAGE: Final = 500
_MEANT: Final = "(SELECT value FROM json_each(:ids))"

_UNSEEN: Final = "max(first_seen, ifnull(last_listed, 0), ifnull(batched_at, 0)) < :value"


class Reach(msgspec.Struct, frozen=True):
    """Which listings to purge.

    Attributes:
        by: a listing's id, a shop's, or the time (unix seconds) since which Etsy has not shown it.
        resting: only listings that are not due for batch.
    """

    by: Literal["listing", "shop", "age"]
    value: int
    resting: bool = False

    @property
    def condition(self) -> str:
        """SQL over `listings`, with :value."""
        if self.by == "age":
            return f"{_UNSEEN} AND batch_due IS NULL" if self.resting else _UNSEEN
        return f"{self.by}_id = :value"


class ImageFile(msgspec.Struct, frozen=True):
    """An image of a listing that is purged.

    Attributes:
        file: as its row names it.
        altered: it is an altered picture of that image, and not Etsy's original.
    """

    listing_id: int
    image_id: int
    file: str | None
    altered: bool = False


def remember_purged(
    connection: sqlite3.Connection, kind: Literal["listing", "shop"], key: int, now: int
) -> None:
    """Keep this id out from now on."""
    connection.execute(
        "INSERT INTO purged VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (kind, key, now)
    )


def purged_among(
    connection: sqlite3.Connection, shop_of: Mapping[int, int | None]
) -> frozenset[int]:
    """Those of some listings that were purged, by themselves or with their shop.

    Args:
        connection: of a catalog.
        shop_of: the shop of each listing, None where it is not known.
    """
    listings = _purged(connection, "listing", shop_of)
    shops = _purged(connection, "shop", {shop for shop in shop_of.values() if shop is not None})
    return frozenset(one for one, shop in shop_of.items() if one in listings or shop in shops)


def _purged(
    connection: sqlite3.Connection, kind: Literal["listing", "shop"], ids: Iterable[int]
) -> set[int]:
    rows = connection.execute(
        "SELECT id FROM purged WHERE kind = ? AND id IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(list(ids))),
    )
    return {row[0] for row in rows}


def listings_page(connection: sqlite3.Connection, reach: Reach, after: int) -> list[int]:
    """Up to `PAGE` listings to purge, by id, from `after` on (exclusive)."""
    rows = connection.execute(
        f"SELECT listing_id FROM listings WHERE {reach.condition} AND listing_id > :after"
        " ORDER BY listing_id LIMIT :page",
        {"value": reach.value, "after": after, "page": PAGE},
    )
    return [row[0] for row in rows]


def images_of(connection: sqlite3.Connection, listing_ids: Collection[int]) -> list[ImageFile]:
    """All images of some listings, and the altered pictures of them."""
    rows = connection.execute(
        f"SELECT listing_id, image_id, file, 0 FROM images WHERE listing_id IN {_MEANT}"
        " UNION ALL"
        f" SELECT listing_id, image_id, file, 1 FROM altered_images WHERE listing_id IN {_MEANT}",
        {"ids": json.dumps(list(listing_ids))},
    )
    return [ImageFile(row[0], row[1], row[2], bool(row[3])) for row in rows]


def delete_listings(connection: sqlite3.Connection, listing_ids: Sequence[int]) -> int:
    """Delete listings, their images and altered pictures; their files are deleted already.

    Returns:
        how many listings had a row.
    """
    ids = {"ids": json.dumps(list(listing_ids))}
    for table in ("images", "altered_images"):
        connection.execute(f"DELETE FROM {table} WHERE listing_id IN {_MEANT}", ids)
    return connection.execute(f"DELETE FROM listings WHERE listing_id IN {_MEANT}", ids).rowcount


_SHOPS: Final = {
    "listing": "0",
    "shop": "shop_id = :value",
    "age": "first_seen < :value AND NOT EXISTS (SELECT 1 FROM listings"
    f" WHERE listings.shop_id = shops.shop_id AND NOT {_UNSEEN})",
}


def count_shops(connection: sqlite3.Connection, reach: Reach) -> int:
    """How many shops `delete_shops` deletes, once their listings are deleted."""
    row = connection.execute(
        f"SELECT count(*) FROM shops WHERE {_SHOPS[reach.by]}", {"value": reach.value}
    ).fetchone()
    return int(row[0])


def delete_shops(connection: sqlite3.Connection, reach: Reach) -> int:
    """Delete the shop, or shops without a listing, with their half-read lists.

    Returns:
        how many shops.
    """
    meant = f"SELECT shop_id FROM shops WHERE {_SHOPS[reach.by]}"
    value = {"value": reach.value}
    lists = f"SELECT interval_id FROM intervals WHERE shop_id IN ({meant})"
    connection.execute(f"DELETE FROM pages WHERE interval_id IN ({lists})", value)
    connection.execute(f"UPDATE intervals SET parent = NULL WHERE shop_id IN ({meant})", value)
    connection.execute(f"DELETE FROM intervals WHERE shop_id IN ({meant})", value)
    return connection.execute(f"DELETE FROM shops WHERE {_SHOPS[reach.by]}", value).rowcount


def last_complete_start(connection: sqlite3.Connection) -> int:
    """When the last complete pass began (unix seconds); 0 where there was none."""
    row = connection.execute("SELECT max(started_at) FROM passes WHERE complete = 1").fetchone()
    return int(row[0] or 0)
