"""Pictures that an older tool altered (background removed), beside Etsy's originals.

They are described by a table of their own, so that they never satisfy a download: the original of
the same image stays in the queue until it is here itself.
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

FOLDER: Final = "altered"
"""Folder of the image folder for altered pictures that come from elsewhere."""

ALTERED: Final = """
CREATE TABLE altered_images (
    listing_id INTEGER NOT NULL,
    image_id INTEGER NOT NULL,         -- of the original that was altered
    origin TEXT NOT NULL DEFAULT 'altered' CHECK (origin = 'altered'),
    file TEXT NOT NULL,                -- relative to the image folder
    bytes INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    altered_at INTEGER NOT NULL,       -- when the older tool wrote the file
    PRIMARY KEY (listing_id, image_id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER altered_images_purged BEFORE INSERT ON altered_images
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'listing' AND id = NEW.listing_id)
BEGIN SELECT RAISE(IGNORE); END;
"""
"""A migration of the catalogue."""


class AlteredImage(msgspec.Struct, frozen=True):
    """An altered picture whose file was checked and is ours now; times in unix seconds."""

    listing_id: int
    image_id: int
    file: str
    size_bytes: int
    width: int
    height: int
    sha256: bytes
    altered_at: int


def known_altered(
    connection: sqlite3.Connection, listing_ids: Collection[int]
) -> dict[tuple[int, int], AlteredImage]:
    """The altered pictures that the catalogue has of these listings, by listing and image."""
    rows = connection.execute(
        "SELECT listing_id, image_id, file, bytes, width, height, sha256, altered_at"
        " FROM altered_images WHERE listing_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(listing_ids)),),
    )
    found = [AlteredImage(*row) for row in rows]
    return {(one.listing_id, one.image_id): one for one in found}


def take_altered(connection: sqlite3.Connection, images: Iterable[AlteredImage]) -> None:
    """Add altered pictures; one whose file was lost gets the new file."""
    connection.executemany(
        "INSERT INTO altered_images"
        " (listing_id, image_id, file, bytes, width, height, sha256, altered_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET file = excluded.file,"
        " bytes = excluded.bytes, width = excluded.width, height = excluded.height,"
        " sha256 = excluded.sha256, altered_at = excluded.altered_at",
        [msgspec.structs.astuple(one) for one in images],
    )
