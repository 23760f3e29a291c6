"""What an older tool knew, added to the catalogue; nothing that is known here already changes.

A listing whose images are all known, and lately, counts as batched and is asked for again when its
images are due to be looked at. Any other has no state: the next list that names it makes batch due,
and no call is spent on listings that ended long ago.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence

import msgspec

from furnisync.catalog.image_queue import requeue
from furnisync.catalog.schema import set_meta
from furnisync.image_job import ReasonCode


class TakenListing(msgspec.Struct, frozen=True):
    """A listing of the older tool; times in unix seconds, None where nothing is known of it.

    Attributes:
        state: Etsy's, or None.
        batched_at: when its images were told.
        batch_due: when to ask batch again.
        reason: why it has no image, in the older tool's word.
    """

    listing_id: int
    shop_id: int | None
    state: str | None = None
    batched_at: int | None = None
    batch_due: int | None = None
    reason: str | None = None


class TakenImage(msgspec.Struct, frozen=True):
    """An image of the older tool; file facts only where its file was checked and is ours now."""

    listing_id: int
    image_id: int
    rank: int
    url: str
    status: str
    next_try: int | None = None
    reason: ReasonCode | None = None
    file: str | None = None
    size: str | None = None
    size_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: bytes | None = None
    done_at: int | None = None


class KnownImage(msgspec.Struct, frozen=True):
    """What the catalogue says of an image already."""

    file: str | None
    sha256: bytes | None
    rank: int
    has_url: bool


def known_listings(connection: sqlite3.Connection, listing_ids: Collection[int]) -> set[int]:
    """Those of the ids that the catalogue has."""
    rows = connection.execute(
        "SELECT listing_id FROM listings WHERE listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(listing_ids)),),
    )
    return {row[0] for row in rows}


def known_images(
    connection: sqlite3.Connection, listing_ids: Collection[int]
) -> dict[int, dict[int, KnownImage]]:
    """The images that the catalogue has of these listings."""
    found: dict[int, dict[int, KnownImage]] = {}
    rows = connection.execute(
        "SELECT listing_id, image_id, file, sha256, rank, url <> '' FROM images"
        " WHERE listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(listing_ids)),),
    )
    for listing_id, image_id, file, sha256, rank, has_url in rows:
        known = KnownImage(file, sha256, rank, bool(has_url))
        found.setdefault(listing_id, {})[image_id] = known
    return found


def take_listings(
    connection: sqlite3.Connection, listings: Iterable[TakenListing], now: int
) -> None:
    """Add listings and their shops; of a known one only a missing shop is filled in."""
    rows = [
        (one.listing_id, one.shop_id, one.state, now, one.batched_at, one.batch_due, one.reason)
        for one in listings
    ]
    connection.executemany(
        "INSERT INTO listings"
        " (listing_id, shop_id, state, first_seen, batched_at, batch_due, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET shop_id = excluded.shop_id"
        " WHERE listings.shop_id IS NULL AND excluded.shop_id IS NOT NULL",
        rows,
    )
    take_shops(connection, {row[1] for row in rows if row[1] is not None}, None, now)


def take_shops(
    connection: sqlite3.Connection, shop_ids: Iterable[int], synced_at: int | None, now: int
) -> None:
    """Add shops; `synced_at` is when the older tool read them whole, if later than we."""
    connection.executemany(
        "INSERT INTO shops (shop_id, first_seen, synced_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET synced_at = excluded.synced_at"
        " WHERE excluded.synced_at > ifnull(shops.synced_at, 0)",
        [(shop_id, now, synced_at) for shop_id in shop_ids],
    )


def take_images(connection: sqlite3.Connection, images: Sequence[TakenImage]) -> None:
    """Add images; a known one gets what it lacks: its file, its url."""
    connection.executemany(_TAKE, [msgspec.structs.astuple(one) for one in images])


_FILE_FACTS = ("file", "size", "bytes", "width", "height", "sha256", "done_at")
_GETS_FILE = "images.file IS NULL AND excluded.file IS NOT NULL"
_GETS_URL = "images.url = '' AND excluded.url <> ''"
_STANDING = {
    "status": "'done'",
    "next_try": "NULL",
    "attempts": "0",
    "reason": "NULL",
    "reason_detail": "NULL",
}
_TAKE = (
    "INSERT INTO images (listing_id, image_id, rank, url, status, next_try, reason, file, size,"
    " bytes, width, height, sha256, done_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    f" ON CONFLICT DO UPDATE SET url = CASE WHEN {_GETS_URL} THEN excluded.url ELSE url END, "
    + ", ".join(
        f"{name} = CASE WHEN {_GETS_FILE} THEN {value} ELSE {name} END"
        for name, value in (
            *_STANDING.items(),
            *((name, f"excluded.{name}") for name in _FILE_FACTS),
        )
    )
    + f" WHERE ({_GETS_FILE}) OR ({_GETS_URL})"
)


def look_at_sizes_again(connection: sqlite3.Connection) -> None:
    """Make the next run hold all images against the settings: files of another size have come."""
    set_meta(connection, "wanted", None)


class HeldOriginal(msgspec.Struct, frozen=True):
    """An image whose file we hold, as its row says."""

    listing_id: int
    image_id: int
    size_bytes: int
    sha256: bytes


def held_originals(
    connection: sqlite3.Connection, listing_ids: Collection[int]
) -> list[HeldOriginal]:
    """The images of these listings whose files we hold."""
    rows = connection.execute(
        "SELECT listing_id, image_id, bytes, sha256 FROM images WHERE file IS NOT NULL"
        " AND bytes IS NOT NULL AND sha256 IS NOT NULL"
        " AND listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(listing_ids)),),
    )
    return [HeldOriginal(*row) for row in rows]


def give_back(connection: sqlite3.Connection, images: Collection[HeldOriginal], now: int) -> None:
    """Fetch these images anew: an altered picture stood for the original.

    One without an address cannot be fetched until batch names it: its row goes. Files stay.
    """
    ids = [(one.listing_id, one.image_id) for one in images]
    requeue(connection, ids, ReasonCode.REPLACED_BY_ALTERED, now)
    connection.executemany(
        "DELETE FROM images WHERE listing_id = ? AND image_id = ? AND url = ''", ids
    )
