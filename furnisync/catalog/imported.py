"""Adds what an older tool knew to the catalog; nothing that is known here already changes.

A listing whose images were all known lately counts as read by batch, and is due again when its
images have to be checked. Any other has no state: the next list that names it makes it due for
batch, and no call is spent on listings that ended long ago.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence

import msgspec

from furnisync.catalog.counters import counted_by_set
from furnisync.catalog.image_queue import requeue
from furnisync.catalog.schema import set_meta
from furnisync.image_job import ReasonCode


class ImportedListing(msgspec.Struct, frozen=True):
    """A listing of the older tool; times in unix seconds, None if not known.

    Attributes:
        state: Etsy's, or None.
        batched_at: when its images were read.
        batch_due: when to read them again.
        reason: why it has no image, in the older tool's word.
    """

    listing_id: int
    shop_id: int | None
    state: str | None = None
    batched_at: int | None = None
    batch_due: int | None = None
    reason: str | None = None


class ImportedFile(msgspec.Struct, frozen=True):
    """A file that was checked and is ours now.

    Attributes:
        file: relative to the image folder.
        size: its CDN size.
        size_bytes: its length.
        width: in pixels.
        height: in pixels.
        sha256: of its bytes.
        done_at: when the older tool wrote it, unix seconds.
    """

    file: str
    size: str
    size_bytes: int
    width: int
    height: int
    sha256: bytes
    done_at: int


class ImportedImage(msgspec.Struct, frozen=True):
    """An image of the older tool, as its row begins; `file` if it is here."""

    listing_id: int
    image_id: int
    rank: int
    url: str
    status: str
    next_try: int | None
    reason: ReasonCode | None
    file: ImportedFile | None


class KnownImage(msgspec.Struct, frozen=True):
    """What the catalog has of an image already."""

    file: str | None
    size_bytes: int | None
    sha256: bytes | None
    rank: int = 1
    has_url: bool = False


KnownImages = dict[int, dict[int, KnownImage]]
"""By listing and image."""


def known_listings(connection: sqlite3.Connection, listing_ids: Collection[int]) -> set[int]:
    """Those of the ids that the catalog has."""
    rows = connection.execute(
        "SELECT listing_id FROM listings WHERE listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(listing_ids)),),
    )
    return {row[0] for row in rows}


def known_images(connection: sqlite3.Connection, listing_ids: Collection[int]) -> KnownImages:
    """The images that the catalog has of these listings."""
    return _known(connection, "file, bytes, sha256, rank, url <> '' FROM images", listing_ids)


def known_altered(connection: sqlite3.Connection, listing_ids: Collection[int]) -> KnownImages:
    """The altered images that the catalog has of these listings."""
    return _known(connection, "file, bytes, sha256 FROM altered_images", listing_ids)


def _known(connection: sqlite3.Connection, what: str, listing_ids: Collection[int]) -> KnownImages:
    found: KnownImages = {}
    rows = connection.execute(
        f"SELECT listing_id, image_id, {what} WHERE listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(listing_ids)),),
    )
    for listing_id, image_id, *values in rows:
        found.setdefault(listing_id, {})[image_id] = KnownImage(*values)
    return found


def import_listings(
    connection: sqlite3.Connection, listings: Iterable[ImportedListing], now: int
) -> None:
    """Add listings and their shops; a known one gets only a missing shop."""
    rows = [(*msgspec.structs.astuple(one), now) for one in listings]
    connection.executemany(
        "INSERT INTO listings"
        " (listing_id, shop_id, state, batched_at, batch_due, reason, first_seen)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET shop_id = excluded.shop_id"
        " WHERE listings.shop_id IS NULL AND excluded.shop_id IS NOT NULL",
        rows,
    )
    import_shops(connection, {row[1] for row in rows if row[1] is not None}, None, now)


def import_shops(
    connection: sqlite3.Connection, shop_ids: Iterable[int], synced_at: int | None, now: int
) -> None:
    """Add shops; `synced_at` is when the older tool read all of each, if later than we did."""
    connection.executemany(
        "INSERT INTO shops (shop_id, first_seen, synced_at) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET synced_at = excluded.synced_at"
        " WHERE excluded.synced_at > ifnull(shops.synced_at, 0)",
        [(shop_id, now, synced_at) for shop_id in shop_ids],
    )


def import_images(connection: sqlite3.Connection, images: Sequence[ImportedImage]) -> None:
    """Add images of listings that were not purged; a known one gets what it lacks: url, file."""
    known = known_images(connection, {one.listing_id for one in images})
    new: dict[str, list[tuple[object, ...]]] = {}
    for one in images:
        if one.image_id not in known.setdefault(one.listing_id, {}):
            new.setdefault(one.status, []).append(msgspec.structs.astuple(one)[:-1])
    with counted_by_set(connection) as changes:
        for status, rows in new.items():
            changes[f"images.{status}"] += connection.executemany(
                "INSERT INTO images (listing_id, image_id, rank, url, status, next_try, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                rows,
            ).rowcount
    connection.executemany(
        "UPDATE images SET url = ? WHERE listing_id = ? AND image_id = ? AND url = ''",
        [(one.url, one.listing_id, one.image_id) for one in images if one.url],
    )
    connection.executemany(
        "UPDATE images SET status = 'done', next_try = NULL, attempts = 0, reason = NULL,"
        " reason_detail = NULL, file = ?,"
        " size = ?, bytes = ?, width = ?, height = ?, sha256 = ?, done_at = ?"
        " WHERE listing_id = ? AND image_id = ? AND file IS NULL",
        [
            (*msgspec.structs.astuple(one.file), one.listing_id, one.image_id)
            for one in images
            if one.file is not None
        ],
    )


def import_altered(
    connection: sqlite3.Connection, images: Iterable[tuple[int, int, ImportedFile]]
) -> None:
    """Add altered images by listing and image; one whose file was lost gets the new file."""
    connection.executemany(
        "INSERT INTO altered_images"
        " (listing_id, image_id, file, bytes, width, height, sha256, altered_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET file = excluded.file,"
        " bytes = excluded.bytes, width = excluded.width, height = excluded.height,"
        " sha256 = excluded.sha256, altered_at = excluded.altered_at",
        [
            (listing_id, image_id, one.file, one.size_bytes, one.width, one.height, one.sha256,
             one.done_at)
            for listing_id, image_id, one in images
        ],
    )  # fmt: skip


def forget_wanted_size(connection: sqlite3.Connection) -> None:
    """Make the next run compare all images with the settings: files of another size were added."""
    set_meta(connection, "wanted", None)


def requeue_replaced(
    connection: sqlite3.Connection, images: Collection[tuple[int, int]], now: int
) -> None:
    """Fetch these images again: an altered image was in the place of the original.

    One without a url cannot be fetched until batch names it: its row is deleted. Files stay.
    """
    requeue(connection, images, ReasonCode.REPLACED_BY_ALTERED, now)
    connection.executemany(
        "DELETE FROM images WHERE listing_id = ? AND image_id = ? AND url = ''", images
    )
