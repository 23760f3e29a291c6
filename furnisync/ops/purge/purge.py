"""`furnisync purge`: deletes from the history, the catalog and the disk.

    ids into `purged` (nothing comes back) --> image files --> catalog rows --> history rows

Each step can be repeated, so an interrupted purge is finished by running it again. Neither sync can
run meanwhile: their locks are held.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal

import msgspec

from furnisync.catalog import purge as catalog_rows
from furnisync.catalog.image_folder import check_folder, identify, settle
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import DAY_S, Clock
from furnisync.config import DataSettings, HomeFiles
from furnisync.errors import ConfigError, UserError
from furnisync.history import purge as history_rows
from furnisync.history.fields.pseudonyms import Buyers, read_buyers
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history, open_history_reader
from furnisync.images.metadata import write_metadata
from furnisync.lockfile import single_instance
from furnisync.ops.purge.pages import (
    Listings,
    count_listings,
    drop_staged,
    in_transactions,
    purge_listings,
    purge_rows,
)
from furnisync.ops.service.service import TITLES
from furnisync.outbox import empty_outbox
from furnisync.quota.ledger import read_state
from furnisync.sqlite.database import overwrite_free_pages

By = Literal["age", "listing", "shop", "buyer"]


class Purge(msgspec.Struct, frozen=True):
    """What to delete: everything older than so many days, or all of one listing, shop or buyer."""

    by: By
    value: float


class Gone(msgspec.Struct, frozen=True):
    """A line of the result: how many of what were deleted, or would be."""

    where: str
    what: str
    number: int


def count_home(files: HomeFiles, clock: Clock, purge: Purge) -> list[Gone]:
    """Count what `purge_home` would delete now; writes nothing, and a sync may run.

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
    """Purge, while neither sync can start.

    Args:
        files: of the home.
        settings: `[data]`, for the buyers' rule.
        clock: the time.
        purge: what to delete.
        agree: gets what would be deleted, before anything is, and returns whether to do it; None:
            do it.

    Returns:
        what was deleted; None if `agree` said no.

    Raises:
        AlreadyRunning: a sync runs.
        ConfigError: the home holds no data.
        NotHere: the image folder is away, so its files cannot be deleted.
        UserError: a database cannot be used, a file cannot be removed.
    """
    _check_home(files, purge, clock)
    with ExitStack() as locks:
        for job, title in TITLES.items():
            locks.enter_context(single_instance(files.lock(job), title))
        now = int(clock.now())
        by_buyer = purge.by == "buyer"
        buyers = read_buyers(files.buyer_key, settings.buyer_user_id, make_key=by_buyer)
        selection = Selection.of(
            settings.shop_fields, settings.listing_fields, settings.review_fields, buyers
        )
        if agree is not None:
            _migrate(files, selection)
            if not agree(_count(files, purge, now)):
                return None
        gone = _purge_catalog(files, purge, now)
        for job in ("images", "data"):
            empty_outbox(files.outbox(job))
        return [*gone, *_purge_history(files, purge, selection, now)]


def _migrate(files: HomeFiles, selection: Selection) -> None:
    """Migrate databases of an older version, which readers refuse."""
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
            f"The clock was {quota.clock}, so the age of data is not known: let the computer set it"
            " by the network, run `furnisync doctor`, then purge."
        )


def _takes_part(database: Path, purge: Purge) -> bool:
    """A missing database is created to remember banned ids; a purge by age bans nothing."""
    return database.exists() or purge.by != "age"


def catalog_reach(files: HomeFiles, purge: Purge, now: int) -> catalog_rows.Reach | None:
    """Which listings to delete; None if the purge does not concern the catalog."""
    if purge.by == "buyer" or not _takes_part(files.catalog, purge):
        return None
    if not files.catalog.exists() and files.metadata.exists():
        return None  # without a catalog data sync reads the shops from the metadata file
    value = now - purge.value * DAY_S if purge.by == "age" else purge.value
    return catalog_rows.Reach(purge.by, int(value))


def history_reach(purge: Purge, buyers: Buyers, now: int) -> history_rows.Reach:
    """Which rows of the history to delete."""
    if purge.by == "age":
        return history_rows.Reach("age", (int(now - purge.value * DAY_S),))
    if purge.by == "buyer":
        return history_rows.Reach("buyer", buyers.forms(int(purge.value)))
    return history_rows.Reach(purge.by, (int(purge.value),))


# -- the catalog and the files -------------------------------------------------------------------


def _catalog_lines(found: Listings, shops: int) -> list[Gone]:
    return [
        Gone("disk", "image files", found.files),
        Gone("catalog", "images", found.images),
        Gone("catalog", "altered images", found.altered),
        Gone("catalog", "listings", found.listings),
        Gone("catalog", "shops", shops),
    ]


def _count_catalog(files: HomeFiles, purge: Purge, now: int) -> list[Gone]:
    reach = catalog_reach(files, purge, now)
    if reach is None:
        return []
    if not files.catalog.exists():
        return _catalog_lines(Listings(), 0)
    with closing(read_catalog(files.catalog)) as catalog:
        found = count_listings(catalog, files, reach)
        return _catalog_lines(found, catalog_rows.count_shops(catalog, reach))


def _purge_catalog(files: HomeFiles, purge: Purge, now: int) -> list[Gone]:
    reach = catalog_reach(files, purge, now)
    if reach is None:
        return []
    with closing(open_catalog(files.catalog)) as catalog:
        run = in_transactions(catalog)
        run(check_folder, files)
        run(lambda connection: settle(connection, files, identify(connection, files)))
        if reach.by != "age":
            run(catalog_rows.remember_purged, reach.by, reach.value, now)
        try:
            *_, gone = Listings(), *purge_listings(run, files, reach, now)
        except OSError as error:
            raise UserError(
                f"{error.filename} could not be removed ({error.strerror}): fix the permissions of"
                " its folder, then run the same command again; it continues from here."
            ) from error
        shops = run(catalog_rows.delete_shops, reach)
        _overwrite_deleted(catalog)
        if files.metadata.exists():
            write_metadata(catalog, files.metadata, files.images.name)
    return _catalog_lines(gone, shops)


# -- the history -----------------------------------------------------------------------------------


def _count_history(files: HomeFiles, purge: Purge, buyers: Buyers, now: int) -> list[Gone]:
    if not _takes_part(files.history, purge):
        return []
    reach = history_reach(purge, buyers, now)
    parts = history_rows.parts_of(reach)
    if not files.history.exists():
        return _history_lines(0, [(part, 0) for part in parts])
    with closing(open_history_reader(files.history)) as history:
        syncs = history_rows.open_syncs_of(history, reach)
        staged = history_rows.count_staged(history, syncs)
        counted = [(part, history_rows.count_rows(history, reach, part)) for part in parts]
    return _history_lines(staged, counted)


def _purge_history(files: HomeFiles, purge: Purge, selection: Selection, now: int) -> list[Gone]:
    if not _takes_part(files.history, purge):
        return []
    buyers = selection.buyers
    reach = history_reach(purge, buyers, now)

    def begin(history: sqlite3.Connection) -> int:
        if purge.by != "age":
            key = int(purge.value)
            key = buyers.hashed(key) if purge.by == "buyer" else key
            history_rows.remember_purged(history, purge.by, key, now)
        return drop_staged(history, reach)

    with closing(open_history(files.history, selection)) as history:
        run = in_transactions(history)
        staged = run(begin)
        gone = list(purge_rows(run, reach))
        _overwrite_deleted(history)
    return _history_lines(staged, gone)


def _history_lines(staged: int, numbers: Iterable[tuple[history_rows.Part, int]]) -> list[Gone]:
    tables: dict[str, int] = {}
    for part, number in numbers:
        tables[part.table] = tables.get(part.table, 0) + number
    staged_line = Gone("history", "staged rows of unfinished syncs", staged)
    return [staged_line, *(Gone("history", table, number) for table, number in tables.items())]


def _overwrite_deleted(connection: sqlite3.Connection) -> None:
    """Leave nothing of what was deleted in the database's files."""
    while in_transactions(connection)(overwrite_free_pages):
        pass
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
