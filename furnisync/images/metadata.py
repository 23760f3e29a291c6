"""`image_metadata.json`: all listings with their images, for people and other programs.

Written whole beside the old one and renamed over it, one listing at a time, so that memory does not
grow with the dataset. Never the state that we work from.
"""

import itertools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

_ROWS = """
SELECT listings.listing_id, listings.shop_id, image_id, rank, url, file, status
FROM listings LEFT JOIN images
  ON images.listing_id = listings.listing_id AND images.status <> 'unwanted'
WHERE listings.shop_id IS NOT NULL OR listings.batched_at IS NOT NULL
   OR listings.last_listed IS NOT NULL
ORDER BY listings.listing_id, rank, image_id
"""


def write_metadata(connection: sqlite3.Connection, path: Path, folder: str) -> int:
    """Write the file from one snapshot of the catalogue.

    Args:
        connection: a reader of the catalogue.
        path: the file.
        folder: the image folder's name, which `file` begins with.

    Returns:
        number of listings in it.

    Raises:
        OSError: the disk is full or cannot be written; the old file stays.
    """
    beside = path.with_name(f".{path.name}.part")
    encode = msgspec.json.Encoder().encode
    written = 0
    try:
        with beside.open("wb", buffering=1 << 20) as file:
            file.write(b"{")
            for listing_id, entry in _entries(connection, folder):
                file.write(b",\n" if written else b"\n")
                file.write(b'"%d": ' % listing_id + encode(entry))
                written += 1
            file.write(b"\n}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return written


def _entries(connection: sqlite3.Connection, folder: str) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = connection.execute(_ROWS)
    for listing_id, group in itertools.groupby(rows, key=lambda row: row["listing_id"]):
        images = []
        shop_id = None
        for row in group:
            shop_id = row["shop_id"]
            if row["image_id"] is not None:
                file = row["file"]
                images.append(
                    {
                        "image_id": row["image_id"],
                        "rank": row["rank"],
                        "url": row["url"],
                        "file": None if file is None else f"{folder}/{file}",
                        "status": row["status"],
                    }
                )
        yield listing_id, {"shop_id": shop_id, "images": images}
