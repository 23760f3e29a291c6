"""Compares rows: children without parents, and the two databases with each other.

Each question reads a page of keys at a time, so that it does not delay a running sync. What a sync
is writing is never seen in part: it commits children with their parents.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from furnisync.catalog import imported, listings
from furnisync.history.schema import open_history_reader
from furnisync.sqlite.connection import choose_reading

PAGE: Final = 5000
EXAMPLES: Final = 5


class Question(NamedTuple):
    """Which rows of a table are wrong, and how to report them."""

    table: str
    key: str
    condition: str
    words: str
    column: str


class RowTrouble(msgspec.Struct, frozen=True):
    """Rows that should not exist: how many, and the ids of a few."""

    database: str
    words: str
    number: int
    examples: tuple[int, ...] = ()


def _lacks(parent: str, column: str, table: str) -> str:
    return (
        f"{table}.{column} IS NOT NULL AND NOT EXISTS"
        f" (SELECT 1 FROM {parent} WHERE {parent}.{column} = {table}.{column})"
    )


def _orphans(table: str, key: str, column: str, parent: str, words: str) -> Question:
    return Question(table, key, _lacks(parent, column, table), words, column)


IMAGES_ALONE: Final = "images of a listing that has no row"
LISTINGS_ALONE: Final = "listings of a shop that has no row"
REPAIRABLE: Final = (IMAGES_ALONE, LISTINGS_ALONE)

CATALOG: Final = (
    _orphans("images", "listing_id", "listing_id", "listings", IMAGES_ALONE),
    _orphans("listings", "listing_id", "shop_id", "shops", LISTINGS_ALONE),
    _orphans(
        "altered_images",
        "listing_id",
        "listing_id",
        "listings",
        "altered images of a listing that has no row",
    ),
    _orphans("pages", "interval_id", "interval_id", "intervals", "pages of no interval"),
)
HISTORY: Final = (
    _orphans(
        "listings_dynamic", "listing_id", "listing_id", "listings",
        "changing values of a listing whose lasting ones are not there",
    ),
    _orphans(
        "shops_dynamic", "shop_id", "shop_id", "shops",
        "changing values of a shop whose lasting ones are not there",
    ),
    _orphans("listings", "rowid", "shop_id", "sync_state", "listings of a shop that nobody syncs"),
    _orphans("reviews", "rowid", "shop_id", "sync_state", "reviews of a shop that nobody syncs"),
    _orphans("work_ids", "sync_id", "sync_id", "work_shops", "staged ids of no sync"),
    _orphans("work_pages", "page_id", "sync_id", "work_shops", "staged answers of no sync"),
)  # fmt: skip
BOTH: Final = (
    Question(
        "listings", "listing_id",
        "EXISTS (SELECT 1 FROM other.listings AS row WHERE row.listing_id = listings.listing_id"
        " AND row.shop_id <> listings.shop_id)",
        "listings of one shop in the catalog, of another in the history", "listing_id",
    ),
)  # fmt: skip
"""Asked of the catalog with the history beside it, as `other`."""


def readable(database: str, checks: Iterator[RowTrouble]) -> Iterator[RowTrouble]:
    """The results of checks; one more if a damaged file stopped them."""
    try:
        yield from checks
    except sqlite3.DatabaseError as error:
        yield RowTrouble(database, f"rows could not be read: {error}", 1)


def check_rows(
    connection: sqlite3.Connection, database: str, questions: tuple[Question, ...]
) -> Iterator[RowTrouble]:
    """Ask each question about a whole table; only those with an answer are reported."""
    for one in questions:
        number, examples = 0, list[int]()
        for after, end in _pages(connection, one):
            found = _ask(connection, one, after, end)
            # Asked again: the page may have been read between two commits.
            found = found and _ask(connection, one, after, end)
            number += len(found)
            examples = list(dict.fromkeys([*examples, *found]))[:EXAMPLES]
        if number:
            yield RowTrouble(database, one.words, number, tuple(examples))


def _pages(connection: sqlite3.Connection, one: Question) -> Iterator[tuple[int, int]]:
    after = -(2**63)
    while True:
        row = connection.execute(
            f"SELECT max(k) FROM (SELECT {one.key} AS k FROM {one.table} WHERE {one.key} > ?"
            f" ORDER BY {one.key} LIMIT {PAGE})",
            (after,),
        ).fetchone()
        if row[0] is None:
            return
        yield after, row[0]
        after = row[0]


def _ask(connection: sqlite3.Connection, one: Question, after: int, end: int) -> list[int]:
    rows = connection.execute(
        f"SELECT {one.table}.{one.column} FROM {one.table}"
        f" WHERE {one.table}.{one.key} > ? AND {one.table}.{one.key} <= ? AND {one.condition}",
        (after, end),
    )
    return [row[0] for row in rows]


def restore_parents(catalog: sqlite3.Connection, now: int) -> None:
    """Restore missing parents: listings to be requested again, shops that are due."""
    rows = catalog.execute(
        f"SELECT DISTINCT listing_id FROM images WHERE {_lacks('listings', 'listing_id', 'images')}"
    ).fetchall()
    listings.want_batch(catalog, [row[0] for row in rows], now)
    rows = catalog.execute(
        f"SELECT DISTINCT shop_id FROM listings WHERE {_lacks('shops', 'shop_id', 'listings')}"
    ).fetchall()
    imported.import_shops(catalog, [row[0] for row in rows], None, now)


def check_both(catalog: sqlite3.Connection, history: Path) -> Iterator[RowTrouble]:
    """The catalog against the history."""
    # This reader keeps log and index, so that the attached one need not create them.
    with closing(open_history_reader(history)):
        catalog.execute("ATTACH ? AS other", (choose_reading(history).address,))
        try:
            yield from check_rows(catalog, "both", BOTH)
        finally:
            catalog.execute("DETACH other")


def check_pages(connection: sqlite3.Connection, database: str) -> Iterator[RowTrouble]:
    """SQLite's own check of a whole file."""
    try:
        signs = [row[0] for row in connection.execute("PRAGMA quick_check(20)")]
    except sqlite3.DatabaseError as error:
        signs = [str(error)]
    if signs != ["ok"]:
        words = "; ".join(signs)[:500]
        yield RowTrouble(database, f"signs of damage in the file: {words}", len(signs))
