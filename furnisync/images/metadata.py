"""`image_metadata.json`: all listings with their images, for people and other programs.

Written whole beside the old one and renamed over it, one listing at a time, so that memory does not
grow with the dataset. Never the state that we work from. Altered pictures stand in a list of their
own (`altered`, each with its `origin`), which only listings with some have, so that no reader takes
them for Etsy's originals.
"""

import os
import sqlite3
from pathlib import Path

_ENTRY = """json_object('shop_id', shop_id, 'images', json((
    SELECT json_group_array(json_object('image_id', image_id, 'rank', rank, 'url', url,
        'file', :folder || '/' || file, 'status', status))
    FROM (SELECT * FROM images WHERE images.listing_id = listings.listing_id
        AND status <> 'unwanted' ORDER BY rank, image_id))))"""
_ALTERED = """
    SELECT json_group_array(json_object('image_id', image_id,
        'file', :folder || '/' || file, 'origin', origin))
    FROM altered_images WHERE altered_images.listing_id = listings.listing_id"""
_ENTRIES = f"""
SELECT '"' || listing_id || '": ' || CASE
    WHEN EXISTS (SELECT 1 FROM altered_images WHERE listing_id = listings.listing_id)
    THEN json_insert({_ENTRY}, '$.altered', json(({_ALTERED}))) ELSE {_ENTRY} END
FROM listings
WHERE shop_id IS NOT NULL OR batched_at IS NOT NULL OR last_listed IS NOT NULL
ORDER BY listing_id
"""
"""SQLite writes the JSON, so that calls and downloads in other threads go on at full speed."""


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
    written = 0
    try:
        with beside.open("wb", buffering=1 << 20) as file:
            file.write(b"{")
            for (entry,) in connection.execute(_ENTRIES, {"folder": folder}):
                file.write(b",\n" if written else b"\n")
                file.write(entry.encode())
                written += 1
            file.write(b"\n}\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return written
