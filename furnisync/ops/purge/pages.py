"""The deletion itself, page by page: for a purge by command and for retention in a running sync.

Both differ only in who runs a transaction: the purge's own connection, or the writer of the sync.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import msgspec

from furnisync.catalog import purge as catalog_rows
from furnisync.catalog.altered import FOLDER as ALTERED
from furnisync.catalog.image_folder import check_folder
from furnisync.catalog.purge import ImageFile
from furnisync.config import HomeFiles
from furnisync.history import purge as history_rows
from furnisync.history.staging import drop_sync
from furnisync.sqlite.database import transaction
from furnisync.store.folder import EXTENSIONS, FolderStore

FIRST = -(2**63)

Run = Callable[..., Any]
"""Runs `work(connection, ...)` in a transaction and returns its result."""


def in_transactions(connection: sqlite3.Connection) -> Run:
    """Run each piece of work in a transaction of its own."""

    def run(work: Callable[..., Any], *args: object) -> Any:
        with transaction(connection):
            return work(connection, *args)

    return run


class Listings(msgspec.Struct):
    """Listings with their images and files, in numbers."""

    files: int = 0
    images: int = 0
    altered: int = 0
    listings: int = 0

    def add(self, images: Collection[ImageFile], *, files: int, listings: int) -> None:
        """Add a page."""
        altered = sum(image.altered for image in images)
        self.altered += altered
        self.images += len(images) - altered
        self.files += files
        self.listings += listings


def names_of(images: Collection[ImageFile]) -> set[str]:
    """All names that the files of images can have; a killed run leaves some without a row."""
    names = {image.file for image in images if image.file is not None}
    for image in images:
        stem = f"{image.listing_id % 1000:03d}/{image.listing_id}_{image.image_id}"
        for extension in EXTENSIONS:
            names |= {f"{stem}.{extension}", f"{ALTERED}/{stem}.{extension}"}
    return names


def count_listings(
    connection: sqlite3.Connection, files: HomeFiles, reach: catalog_rows.Reach
) -> Listings:
    """Count what `purge_listings` would delete.

    Raises:
        NotHere: the image folder is away.
    """
    check_folder(connection, files)
    store, found, after = FolderStore(files.images), Listings(), FIRST
    while ids := catalog_rows.listings_page(connection, reach, after):
        images = catalog_rows.images_of(connection, ids)
        present = sum(store.has(name) for name in names_of(images))
        found.add(images, files=present, listings=len(ids))
        after = ids[-1]
    return found


def purge_listings(
    run: Run, files: HomeFiles, reach: catalog_rows.Reach, now: int
) -> Iterator[Listings]:
    """Delete listings with their images and files, a page for each step.

    Yields:
        what was deleted so far.

    Raises:
        NotHere: the image folder is away; rows are deleted only with their files.
        OSError: a file cannot be removed.
    """
    run(check_folder, files)
    store, gone, after = FolderStore(files.images), Listings(), FIRST
    while ids := run(catalog_rows.listings_page, reach, after):
        images = run(catalog_rows.images_of, ids)
        removed = sum(store.remove(name) for name in names_of(images))
        run(check_folder, files)  # it may have been unmounted since
        gone.add(images, files=removed, listings=run(_delete_listings, reach, ids, now))
        yield gone
        after = ids[-1]


def _delete_listings(
    connection: sqlite3.Connection, reach: catalog_rows.Reach, ids: Sequence[int], now: int
) -> int:
    if reach.by == "shop":
        for listing_id in ids:
            catalog_rows.remember_purged(connection, "listing", listing_id, now)
    return catalog_rows.delete_listings(connection, ids)


def drop_staged(connection: sqlite3.Connection, reach: history_rows.Reach) -> int:
    """Drop unfinished syncs that hold some of it; returns how many staged rows they had."""
    syncs = history_rows.open_syncs_of(connection, reach)
    staged = history_rows.count_staged(connection, syncs)
    for sync_id in syncs:
        drop_sync(connection, sync_id)
    return staged


def purge_rows(run: Run, reach: history_rows.Reach) -> Iterator[tuple[history_rows.Part, int]]:
    """Delete rows of the history, a page for each step.

    Yields:
        how many rows of which part were deleted.
    """
    for part in history_rows.parts_of(reach):
        after: int | None = FIRST
        while after is not None:
            number, after = run(history_rows.delete_page, reach, part, after)
            yield part, number
