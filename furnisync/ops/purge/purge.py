"""`furnisync purge`: what is to go goes from the history, the catalogue and the disk.

    ids into `purged` (nothing comes back) --> image files --> catalogue rows --> history rows

Each step can be repeated, so that a purge that was broken off is finished by running it again.
Both syncs stand still meanwhile: their locks are held.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from furnisync.catalog import purge as catalog_rows
from furnisync.catalog.altered import FOLDER as ALTERED
from furnisync.catalog.image_folder import check_folder, identify, settle
from furnisync.catalog.purge import ImageFile
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import DAY_S, Clock
from furnisync.config import DataSettings, HomeFiles
from furnisync.errors import ConfigError, UserError
from furnisync.history import purge as history_rows
from furnisync.history.pseudonyms import Buyers, read_buyers
from furnisync.history.schema import open_history, open_history_reader
from furnisync.history.selection import Selection
from furnisync.history.staging import drop_sync
from furnisync.images.metadata import write_metadata
from furnisync.lockfile import single_instance
from furnisync.quota.ledger import read_state
from furnisync.sqlite import overwrite_free_pages, transaction
from furnisync.store.folder import EXTENSIONS, FolderStore

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


def count_home(files: HomeFiles, clock: Clock, purge: Purge) -> list[Gone]:
    """Count what `purge_home` would take out now; writes nothing, and a sync may run.

    Raises:
        ConfigError: the home holds no data.
        UserError: a database cannot be used.
    """
    _check_home(files, purge, clock)
    return _count(files, purge, int(clock.now()))


def _count(files: HomeFiles, purge: Purge, now: int) -> list[Gone]:
    # The forms of a buyer's id are the same under every rule; another rule might make a key.
    buyers = read_buyers(files.buyer_key, "keep")
    return [*_count_catalog(files, purge, now), *_count_history(files, purge, buyers, now)]


def purge_home(
    files: HomeFiles,
    settings: DataSettings,
    clock: Clock,
    purge: Purge,
    agree: Callable[[list[Gone]], bool] | None = None,
) -> list[Gone] | None:
    """Purge, while both syncs are kept from starting.

    Args:
        files: of the home.
        settings: `[data]`, for the buyers' rule.
        clock: the time.
        purge: what is to go.
        agree: is shown what would go, before anything does, and says whether it shall; None:
            it shall.

    Returns:
        what went; None where `agree` said no.

    Raises:
        AlreadyRunning: a sync runs.
        ConfigError: the home holds no data.
        NotHere: the image folder is away, so that its files could not go.
        UserError: a database cannot be used, a file cannot be removed.
    """
    _check_home(files, purge, clock)
    with ExitStack() as locks:
        for job, title in (("images", "image sync"), ("data", "data sync")):
            locks.enter_context(single_instance(files.lock(job), title))
        now = int(clock.now())
        by_buyer = purge.by == "buyer"
        buyers = read_buyers(files.buyer_key, settings.buyer_user_id, make_key=by_buyer)
        selection = Selection.of(
            settings.shop_fields, settings.listing_fields, settings.review_fields, buyers
        )
        if agree is not None:
            _renew(files, selection)
            if not agree(_count(files, purge, now)):
                return None
        gone = list(_purge_catalog(files, purge, now))
        return [*gone, *_purge_history(files, purge, selection, now)]


def _renew(files: HomeFiles, selection: Selection) -> None:
    """Bring databases of an older version to this one, as readers refuse them."""
    if files.catalog.exists():
        open_catalog(files.catalog).close()
    if files.history.exists():
        open_history(files.history, selection).close()


def _check_home(files: HomeFiles, purge: Purge, clock: Clock) -> None:
    if not files.catalog.exists() and not files.history.exists():
        raise ConfigError(
            f"{files.home} holds neither {files.catalog.name} nor {files.history.name}: there is"
            " nothing to purge. Is FURNISYNC_HOME the right folder?"
        )
    quota = read_state(files.quota, None, clock)
    if purge.by == "age" and quota is not None and quota.clock is not None and quota.clock.wrong:
        raise ConfigError(
            f"The clock was {quota.clock}, so that nobody knows what is old: let the computer set"
            " it by the network, run `furnisync doctor`, then purge."
        )


def _takes_part(database: Path, purge: Purge) -> bool:
    """One that is not there yet is made, to remember what shall never come in; age bans nothing."""
    return database.exists() or purge.by != "age"


def catalog_reach(files: HomeFiles, purge: Purge, now: int) -> catalog_rows.Reach | None:
    """What is meant of the catalogue; None where it knows nothing of it."""
    if purge.by == "buyer" or not _takes_part(files.catalog, purge):
        return None
    if not files.catalog.exists() and files.metadata.exists():
        return None  # the metadata file tells data sync of the shops, but only without a catalogue
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


def names_of(images: list[ImageFile]) -> set[str]:
    """Every name that the files of some images can have; a killed run leaves some without row."""
    names = {image.file for image in images if image.file is not None}
    for image in images:
        stem = f"{image.listing_id % 1000:03d}/{image.listing_id}_{image.image_id}"
        for extension in EXTENSIONS:
            names |= {f"{stem}.{extension}", f"{ALTERED}/{stem}.{extension}"}
    return names


def remove_files(store: FolderStore, images: list[ImageFile]) -> int:
    """Take the files of images away, under every name that they can have; how many there were."""
    return sum(store.remove(name) for name in names_of(images))


class _Catalogued(msgspec.Struct):
    """Numbers of what went, or would go, from the catalogue and the disk."""

    files: int = 0
    images: int = 0
    altered: int = 0
    listings: int = 0
    shops: int = 0

    def add(self, images: list[ImageFile]) -> None:
        altered = sum(image.altered for image in images)
        self.altered += altered
        self.images += len(images) - altered

    def told(self) -> Iterator[Gone]:
        yield Gone("disk", "image files", self.files)
        yield Gone("catalogue", "images", self.images)
        yield Gone("catalogue", "altered pictures", self.altered)
        yield Gone("catalogue", "listings", self.listings)
        yield Gone("catalogue", "shops", self.shops)


def _count_catalog(files: HomeFiles, purge: Purge, now: int) -> Iterator[Gone]:
    reach = catalog_reach(files, purge, now)
    if reach is None:
        return
    numbers = _Catalogued()
    store = FolderStore(files.images)
    if files.catalog.exists():
        with closing(read_catalog(files.catalog)) as catalog:
            check_folder(catalog, files)
            after = FIRST
            while ids := catalog_rows.listings_page(catalog, reach, after):
                found = catalog_rows.images_of(catalog, ids)
                numbers.files += sum(store.has(name) for name in names_of(found))
                numbers.add(found)
                numbers.listings += len(ids)
                after = ids[-1]
            numbers.shops = catalog_rows.count_shops(catalog, reach)
    yield from numbers.told()


def _purge_catalog(files: HomeFiles, purge: Purge, now: int) -> Iterator[Gone]:
    reach = catalog_reach(files, purge, now)
    if reach is None:
        return
    numbers = _Catalogued()
    store = FolderStore(files.images)
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
            numbers.files += _remove(store, found)
            numbers.add(found)
            check_folder(catalog, files)  # away since: rows are forgotten only with their files
            with transaction(catalog):
                if reach.by == "shop":
                    for listing_id in ids:
                        catalog_rows.remember_purged(catalog, "listing", listing_id, now)
                numbers.listings += catalog_rows.delete_listings(catalog, ids)
            after = ids[-1]
        with transaction(catalog):
            numbers.shops = catalog_rows.delete_shops(catalog, reach)
        _forget_for_good(catalog)
        if files.metadata.exists():
            write_metadata(catalog, files.metadata, files.images.name)
    yield from numbers.told()


def _remove(store: FolderStore, images: list[ImageFile]) -> int:
    try:
        return remove_files(store, images)
    except OSError as error:
        raise UserError(
            f"{error.filename} could not be removed ({error.strerror}): fix the permissions of its"
            " folder, then run the same command again; it goes on from here."
        ) from error


# -- the history -----------------------------------------------------------------------------------


def _count_history(files: HomeFiles, purge: Purge, buyers: Buyers, now: int) -> Iterator[Gone]:
    if not _takes_part(files.history, purge):
        return
    reach = history_reach(purge, buyers, now)
    parts = history_rows.parts_of(reach)
    if not files.history.exists():
        yield from _by_table(0, dict.fromkeys(parts, 0))
        return
    with closing(open_history_reader(files.history)) as history:
        syncs = history_rows.open_syncs_of(history, reach)
        staged = history_rows.count_staged(history, syncs)
        count = partial(history_rows.count_rows, history, reach)
        yield from _by_table(staged, {part: count(part) for part in parts})


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
            syncs = history_rows.open_syncs_of(history, reach)
            staged = history_rows.count_staged(history, syncs)
            for sync_id in syncs:
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
    yield from _by_table(staged, deleted)


def _forget_for_good(connection: sqlite3.Connection) -> None:
    """Leave nothing of what was deleted in the database's files."""
    more = True
    while more:
        with transaction(connection):
            more = overwrite_free_pages(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _by_table(staged: int, numbers: dict[history_rows.Part, int]) -> Iterator[Gone]:
    yield Gone("history", "staged rows of syncs under way", staged)
    tables: dict[str, int] = {}
    for part, number in numbers.items():
        tables[part.table] = tables.get(part.table, 0) + number
    for table, number in tables.items():
        yield Gone("history", table, number)
