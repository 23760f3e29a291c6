"""`image_metadata.json`: all listings with their images, for people and other programs.

Written whole beside the old one and renamed over it, one listing at a time, so that memory does not
grow with the dataset. It is never read back as state. A file that we did not write last
(`owned.py`) is kept under another name. An image that its listing no longer shows has
`current` false and no rank. Altered pictures have a list of their own (`altered`, each
with its `origin`), which only listings with some have, so that no reader takes them for originals.
"""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from furnisync import owned
from furnisync.config import OLDER_TOOL
from furnisync.errors import ConfigError

log = logging.getLogger("furnisync.images")

LOOK_EVERY: Final = 1000
SYNC_BYTES: Final = 64_000_000
_EMPTY_BYTES: Final = 64
"""A file of `{}` is not longer than this, with any blanks."""

_IMAGE = """json_object('image_id', image_id, 'rank', rank, 'url', url,
        'file', :folder || '/' || file, 'status', status)"""
_ENTRY = f"""json_object('shop_id', shop_id, 'images', json((
    SELECT json_group_array(json(iif(rank IS NOT NULL, {_IMAGE},
        json_insert({_IMAGE}, '$.current', json('false')))))
    FROM (SELECT * FROM images WHERE images.listing_id = listings.listing_id
        AND status <> 'unwanted' ORDER BY rank NULLS LAST, image_id))))"""
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
"""SQLite writes the JSON, so that calls and downloads in other threads keep their full speed."""


class Interrupted(Exception):
    """The run is stopping: the file stays as it was last written."""


def write_metadata(
    connection: sqlite3.Connection,
    path: Path,
    folder: str,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Write the file from one snapshot of the catalog.

    Args:
        connection: a reader of the catalog.
        path: the file.
        folder: the image folder's name, which `file` begins with.
        is_stopping: asked now and then; then the file stays as it was.

    Returns:
        number of listings in it.

    Raises:
        OSError: the disk is full or cannot be written; the old file stays.
        Interrupted: `is_stopping` said so.
    """
    written = synced = 0
    with owned.replacing(path, kept_in=path.parent / OLDER_TOOL / path.name) as file:
        file.write(b"{")
        for (entry,) in connection.execute(_ENTRIES, {"folder": folder}):
            file.write(b",\n" if written else b"\n")
            file.write(entry.encode())
            written += 1
            if written % LOOK_EVERY == 0:
                if is_stopping():
                    raise Interrupted
                if file.tell() - synced >= SYNC_BYTES:  # else the last sync could take long
                    synced = file.tell()
                    file.flush()
                    os.fsync(file.fileno())
        file.write(b"\n}\n")
    return written


def guard_metadata(connection: sqlite3.Connection, path: Path) -> None:
    """Before a run on an empty catalog: protect what only the file still has.

    A file of ours is what is left of a lost catalog: it is kept under another name, and logged.

    Args:
        connection: of the catalog.
        path: the file.

    Raises:
        ConfigError: the file is another program's, and was not imported.
    """
    known = connection.execute("SELECT EXISTS (SELECT 1 FROM listings)").fetchone()[0]
    if known or not os.path.lexists(path) or _says_nothing(path):
        return
    if not owned.is_ours(path):
        raise ConfigError(
            f"{path} is of another program, and the catalog is empty: run `furnisync import"
            f" {path.parent}` first, or move the file away."
        )
    kept = owned.keep(path, "has listings that the catalog no longer has")
    log.warning("`furnisync import --metadata %s` imports them", kept)


def _says_nothing(path: Path) -> bool:
    if path.stat().st_size > _EMPTY_BYTES:
        return False
    return b"".join(path.read_bytes().split()) in (b"", b"{}")
