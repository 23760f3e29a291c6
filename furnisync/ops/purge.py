"""`furnisync purge`: what is to go goes from the history, the catalogue and the disk.

    ids into `purged` (nothing comes back) --> image files --> catalogue rows --> history rows

Each step can be repeated, so that a purge that was broken off is finished by running it again.
Both syncs stand still meanwhile: their locks are held.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from furnisync.catalog import purge as catalog_rows
from furnisync.catalog.image_folder import check_folder, identify, settle
from furnisync.catalog.purge import ImageFile
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import Clock
from furnisync.config import DataSettings, HomeFiles
from furnisync.database import overwrite_free_pages, transaction
from furnisync.errors import ConfigError
from furnisync.history import purge as history_rows
from furnisync.history.buyers import Buyers, read_buyers
from furnisync.history.schema import open_history, open_history_reader
from furnisync.history.selection import Selection
from furnisync.history.staging import drop_sync
from furnisync.images.metadata import write_metadata
from furnisync.images.store import EXTENSIONS, FolderStore
from furnisync.instance import single_instance

DAY_S = 86_400
FIRST = -(2**63)


By = Literal["age", "listing", "shop", "buyer"]


class Purge(msgspec.Struct, frozen=True):
    """What is to go: everything older than so many days, or all of one listing, shop or buyer."""

    by: By
    value: float


class Gone(msgspec.Struct, frozen=True):
    """How many of what went, or would go."""

    where: str
    what: str
    number: int


def purge_home(
    files: HomeFiles, settings: DataSettings, clock: Clock, purge: Purge, *, dry_run: bool
) -> Iterator[Gone]:
    """Purge, telling each part as it is done.

    Args:
        files: of the home.
        settings: `[data]`, for the buyers' rule.
        clock: the time.
        purge: what is to go.
        dry_run: only count.

    Raises:
        AlreadyRunning: a sync runs.
        ConfigError: the home holds no data.
        NotHere: the image folder is away, so that its files could not go.
        UserError: a database cannot be used.
    """
    if not files.catalog.exists() and not files.history.exists():
        raise ConfigError(
            f"{files.home} holds neither {files.catalog.name} nor {files.history.name}: there is"
            " nothing to purge. Is FURNISYNC_HOME the right folder?"
        )
    now = int(clock.now())
    make_key = purge.by == "buyer" and not dry_run
    buyers = read_buyers(files.buyer_key, settings.buyer_user_id, make_key=make_key)
    if dry_run:
        yield from _count_catalog(files, purge, now)
        yield from _count_history(files, purge, buyers, now)
        return
    with ExitStack() as locks:
        for job, title in (("images", "image sync"), ("data", "data sync")):
            locks.enter_context(single_instance(files.lock(job), title))
        yield from _purge_catalog(files, purge, now)
        selection = Selection.of(
            settings.shop_fields, settings.listing_fields, settings.review_fields, buyers
        )
        yield from _purge_history(files, purge, selection, now)


def _takes_part(database: Path, purge: Purge) -> bool:
    """One that is not there yet is made, to remember what shall never come in; age bans nothing."""
    return database.exists() or purge.by != "age"


def catalog_reach(purge: Purge, now: int) -> catalog_rows.Reach | None:
    """What is meant of the catalogue; None where it knows nothing of it."""
    if purge.by == "buyer":
        return None
    value = now - purge.value * DAY_S if purge.by == "age" else purge.value
    return catalog_rows.Reach(purge.by, int(value))


def history_reach(purge: Purge, buyers: Buyers, now: int) -> history_rows.Reach:
    """What is meant of the history."""
    if purge.by == "age":
        return history_rows.Reach("age", (int(now - purge.value * DAY_S),))
    if purge.by == "buyer":
        return history_rows.Reach("buyer", buyers.forms(int(purge.value)))
    return history_rows.Reach(purge.by, (int(purge.value),))


# -- the catalogue and the files -------------------------------------------------------------------


def remove_files(store: FolderStore, images: list[ImageFile]) -> int:
    """Take the files of images away, under every name that they can have; how many there were."""
    removed = 0
    for image in images:
        stem = f"{image.listing_id % 1000:03d}/{image.listing_id}_{image.image_id}"
        names = {f"{stem}.{extension}" for extension in EXTENSIONS}
        if image.file is not None:
            names.add(image.file)
        removed += sum(store.remove(name) for name in names)
    return removed


def _count_catalog(files: HomeFiles, purge: Purge, now: int) -> Iterator[Gone]:
    reach = catalog_reach(purge, now)
    if reach is None or not files.catalog.exists():
        return
    listings = images = held = 0
    with closing(read_catalog(files.catalog)) as catalog:
        check_folder(catalog, files)
        after = FIRST
        while ids := catalog_rows.listings_page(catalog, reach, after):
            found = catalog_rows.images_of(catalog, ids)
            listings, images = listings + len(ids), images + len(found)
            held += sum(one.file is not None for one in found)
            after = ids[-1]
        shops = catalog_rows.count_shops(catalog, reach)
    yield Gone("disk", "image files", held)
    yield Gone("catalogue", "images", images)
    yield Gone("catalogue", "listings", listings)
    yield Gone("catalogue", "shops", shops)


def _purge_catalog(files: HomeFiles, purge: Purge, now: int) -> Iterator[Gone]:
    reach = catalog_reach(purge, now)
    if reach is None or not _takes_part(files.catalog, purge):
        return
    if not files.catalog.exists() and files.metadata.exists():
        return  # the metadata file tells data sync of the shops, but only without a catalogue
    store = FolderStore(files.images)
    listings = images = removed = 0
    with closing(open_catalog(files.catalog)) as catalog:
        check_folder(catalog, files)
        with transaction(catalog):
            settle(catalog, files, identify(catalog, files))
        if reach.by != "age":
            with transaction(catalog):
                catalog_rows.remember_purged(catalog, reach.by, reach.value, now)
        after = FIRST
        while ids := catalog_rows.listings_page(catalog, reach, after):
            found = catalog_rows.images_of(catalog, ids)
            removed, images = removed + remove_files(store, found), images + len(found)
            check_folder(catalog, files)  # away since: rows are forgotten only with their files
            with transaction(catalog):
                if reach.by == "shop":
                    for listing_id in ids:
                        catalog_rows.remember_purged(catalog, "listing", listing_id, now)
                listings += catalog_rows.delete_listings(catalog, ids)
            after = ids[-1]
        with transaction(catalog):
            shops = catalog_rows.delete_shops(catalog, reach)
        _forget_for_good(catalog)
        if files.metadata.exists():
            write_metadata(catalog, files.metadata, files.images.name)
    yield Gone("disk", "image files", removed)
    yield Gone("catalogue", "images", images)
    yield Gone("catalogue", "listings", listings)
    yield Gone("catalogue", "shops", shops)


# -- the history -----------------------------------------------------------------------------------


def _count_history(files: HomeFiles, purge: Purge, buyers: Buyers, now: int) -> Iterator[Gone]:
    if not files.history.exists():
        return
    reach = history_reach(purge, buyers, now)
    with closing(open_history_reader(files.history)) as history:
        count = partial(history_rows.count_rows, history, reach)
        yield from _by_table({part: count(part) for part in history_rows.parts_of(reach)})


def _purge_history(
    files: HomeFiles, purge: Purge, selection: Selection, now: int
) -> Iterator[Gone]:
    if not _takes_part(files.history, purge):
        return
    buyers = selection.buyers
    reach = history_reach(purge, buyers, now)
    with closing(open_history(files.history, selection)) as history:
        with transaction(history):
            if purge.by != "age":
                key = int(purge.value)
                key = buyers.hashed(key) if purge.by == "buyer" else key
                history_rows.remember_purged(history, purge.by, key, now)
            for sync_id in history_rows.open_syncs_of(history, reach):
                drop_sync(history, sync_id)
        deleted = {}
        for part in history_rows.parts_of(reach):
            deleted[part] = 0
            after: int | None = FIRST
            while after is not None:
                with transaction(history):
                    number, after = history_rows.delete_page(history, reach, part, after)
                deleted[part] += number
        _forget_for_good(history)
    yield from _by_table(deleted)


def _forget_for_good(connection: sqlite3.Connection) -> None:
    """Leave nothing of what was deleted in the database's files."""
    more = True
    while more:
        with transaction(connection):
            more = overwrite_free_pages(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _by_table(numbers: dict[history_rows.Part, int]) -> Iterator[Gone]:
    tables: dict[str, int] = {}
    for part, number in numbers.items():
        tables[part.table] = tables.get(part.table, 0) + number
    for table, number in tables.items():
        yield Gone("history", table, number)
