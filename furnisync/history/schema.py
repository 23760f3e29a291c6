"""The file `etsy_data.db`: its tables, and how it is opened.

| table              | a row is                                  | key                            |
| ------------------ | ----------------------------------------- | ------------------------------ |
| `shops`            | static fields of a shop                   | shop_id, snapshot_timestamp    |
| `shops_dynamic`    | dynamic fields of a shop, one row a sync  | shop_id, snapshot_timestamp    |
| `listings`         | static fields of a listing                | listing_id, snapshot_timestamp |
| `listings_dynamic` | dynamic fields of a listing, one a sync   | listing_id, snapshot_timestamp |
| `reviews`          | a review as first seen                    | transaction_id                 |
| `sync_state`       | the sync state of a shop                  | shop_id                        |
| `oddities`         | a value that did not fit, as JSON         |                                |
| `stored_columns`   | a column that the settings added          | table_name, column_name        |
| `purged`           | a purged id that stays out                | kind, id                       |
| `work_*`           | fetched parts of incomplete syncs         |                                |

A row with `wrong_clock` 1 was written while the clock was hours ahead; views leave it out.
All times are unix seconds, UTC. A sync only adds rows to the first five. The dynamic
tables are in the order of their key (WITHOUT ROWID), so that the history of one listing, its
latest row and a panel over all are read without a second index and without a sort.
"""

import sqlite3
from pathlib import Path
from typing import Final

from furnisync.errors import DatabaseUnusable
from furnisync.history.clock_repair import COLUMN, MARKS
from furnisync.history.fields.selection import Selection
from furnisync.history.purge import PURGED
from furnisync.history.set_aside import TABLE as SET_ASIDE_TABLE
from furnisync.outbox import CURSOR_TABLE
from furnisync.sqlite.database import Migration, open_database, open_reader, transaction

APPLICATION_ID: Final = 0x46524E48  # "FRNH"
WAL_PAGES: Final = 8000
"""32 MB: staged rows are mostly deleted and overwritten before they reach the main file."""

_SNAPSHOTS: Final = """
CREATE TABLE shops (
    shop_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL,
    PRIMARY KEY (shop_id, snapshot_timestamp)
) STRICT;
CREATE TABLE shops_dynamic (
    shop_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL,
    PRIMARY KEY (shop_id, snapshot_timestamp)
) STRICT, WITHOUT ROWID;
CREATE TABLE listings (
    listing_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL,
    shop_id INTEGER NOT NULL,
    PRIMARY KEY (listing_id, snapshot_timestamp)
) STRICT;
CREATE INDEX listings_of_shop ON listings (shop_id, listing_id);
CREATE TABLE listings_dynamic (
    listing_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL,
    PRIMARY KEY (listing_id, snapshot_timestamp)
) STRICT, WITHOUT ROWID;
CREATE TABLE reviews (
    snapshot_timestamp INTEGER NOT NULL,
    shop_id INTEGER,
    listing_id INTEGER,
    transaction_id INTEGER,
    buyer_user_id INTEGER,
    review TEXT,
    create_timestamp INTEGER
) STRICT;
CREATE INDEX reviews_of_shop ON reviews (shop_id, create_timestamp);
CREATE UNIQUE INDEX reviews_identity ON reviews (transaction_id)
    WHERE transaction_id IS NOT NULL;
CREATE UNIQUE INDEX reviews_identity_without_transaction ON reviews (
    shop_id IS NULL, ifnull(shop_id, 0), create_timestamp IS NULL, ifnull(create_timestamp, 0),
    listing_id IS NULL, ifnull(listing_id, 0), buyer_user_id IS NULL, ifnull(buyer_user_id, 0),
    review IS NULL, ifnull(review, '')
) WHERE transaction_id IS NULL;
CREATE TABLE oddities (
    table_name TEXT NOT NULL,
    id INTEGER,
    snapshot_timestamp INTEGER NOT NULL,
    field TEXT,
    value TEXT NOT NULL
) STRICT;
CREATE TABLE stored_columns (
    table_name TEXT NOT NULL,
    column_name TEXT NOT NULL,
    sql_type TEXT NOT NULL,
    PRIMARY KEY (table_name, column_name)
) STRICT, WITHOUT ROWID;
INSERT INTO stored_columns VALUES
    ('reviews', 'shop_id', 'INTEGER'), ('reviews', 'listing_id', 'INTEGER'),
    ('reviews', 'transaction_id', 'INTEGER'), ('reviews', 'buyer_user_id', 'INTEGER'),
    ('reviews', 'review', 'TEXT'), ('reviews', 'create_timestamp', 'INTEGER');
"""

_STATE: Final = """
CREATE TABLE sync_state (
    shop_id INTEGER PRIMARY KEY,
    status TEXT NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'ok', 'gone')),
    furniture_listings INTEGER NOT NULL DEFAULT 0, -- known from image sync: who comes first
    first_sync INTEGER,
    last_sync INTEGER,
    last_static INTEGER,
    listings_told INTEGER,      -- `count` of the shop's list
    listings_active INTEGER,    -- the shop's own listing_active_count
    listings_found INTEGER,     -- active listings that arrived
    last_asked INTEGER,
    not_before INTEGER,         -- after a failure, and for shops that are gone
    failures INTEGER NOT NULL DEFAULT 0,
    reason TEXT,                -- of the last failure; NULL once a sync succeeds
    gone_answers INTEGER NOT NULL DEFAULT 0,
    signals TEXT,               -- review_count, review_average, transaction_sold_count now
    signals_walking TEXT,       -- the same when the walk under way began
    signals_walked TEXT,        -- the same when the last complete walk began
    reviews_watermark INTEGER,  -- all reviews up to this second are here
    reviews_walked INTEGER,     -- when the last complete walk began
    walk_started INTEGER,       -- NULL: no walk is under way
    walk_newest INTEGER,        -- becomes the watermark when the walk is complete
    walk_max_created INTEGER,   -- what the walk asks next
    walk_offset INTEGER,
    reviews_not_before INTEGER,
    reviews_failures INTEGER NOT NULL DEFAULT 0,
    reviews_reason TEXT,
    reviews_out_of_reach INTEGER NOT NULL DEFAULT 0 -- seconds with more than one query shows
) STRICT;
CREATE INDEX sync_state_size ON sync_state (furniture_listings DESC, shop_id);
CREATE INDEX sync_state_new ON sync_state (furniture_listings DESC, shop_id)
    WHERE status = 'new';
CREATE INDEX sync_state_last ON sync_state (last_sync, shop_id) WHERE status = 'ok';
CREATE INDEX sync_state_gone ON sync_state (not_before, shop_id) WHERE status = 'gone';
CREATE INDEX sync_state_walking ON sync_state (walk_started, shop_id)
    WHERE status = 'ok' AND walk_started IS NOT NULL;
CREATE INDEX sync_state_unwalked ON sync_state (furniture_listings DESC, shop_id)
    WHERE status = 'ok' AND walk_started IS NULL AND reviews_walked IS NULL;
CREATE INDEX sync_state_moved ON sync_state (reviews_walked, shop_id)
    WHERE status = 'ok' AND walk_started IS NULL AND (signals = signals_walked) IS NOT TRUE;
CREATE INDEX sync_state_quiet ON sync_state (reviews_walked, shop_id)
    WHERE status = 'ok' AND walk_started IS NULL AND signals = signals_walked;
"""

_WORK: Final = """
CREATE TABLE work_shops (
    sync_id INTEGER PRIMARY KEY,
    shop_id INTEGER NOT NULL UNIQUE,
    snapshot_timestamp INTEGER NOT NULL,
    static_after INTEGER NOT NULL,  -- older static rows are due again
    list_offset INTEGER,            -- the next page's; NULL: the list is read
    listings_told INTEGER,
    open_ids INTEGER NOT NULL DEFAULT 0,
    shop BLOB,
    listings_active INTEGER,
    signals TEXT
) STRICT;
CREATE INDEX work_shops_read ON work_shops (sync_id) WHERE list_offset IS NULL AND open_ids = 0;
CREATE TABLE work_ids (
    sync_id INTEGER NOT NULL,
    listing_id INTEGER NOT NULL,
    status INTEGER NOT NULL DEFAULT 0, -- 0 wanted, 1 here, 2 gone
    PRIMARY KEY (sync_id, listing_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX work_ids_wanted ON work_ids (sync_id, listing_id) WHERE status = 0;
CREATE INDEX work_ids_gone ON work_ids (sync_id, listing_id) WHERE status = 2;
CREATE TABLE work_pages (
    page_id INTEGER PRIMARY KEY,
    sync_id INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX work_pages_of_sync ON work_pages (sync_id);
"""

_DRIFT: Final = """
CREATE TABLE api_fields (
    kind TEXT NOT NULL,
    field TEXT NOT NULL,
    types TEXT NOT NULL,   -- JSON types seen, separated by blanks
    compared INTEGER NOT NULL,
    PRIMARY KEY (kind, field)
) STRICT, WITHOUT ROWID;
CREATE TABLE drift (at INTEGER NOT NULL, message TEXT NOT NULL) STRICT;
"""

# Most reviews that a page of the shop lacked permanently, although the answer counted them.
_UNSENT: Final = "ALTER TABLE sync_state ADD COLUMN reviews_unsent INTEGER NOT NULL DEFAULT 0"

# What image sync's answers hold; see `history/outbox_rows.py`.
_REUSE: Final = """
CREATE TABLE arrived_shops (
    shop_id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,        -- of the answer
    shop BLOB NOT NULL,
    listings_active INTEGER,
    signals TEXT
) STRICT;
CREATE TRIGGER arrived_shops_purged BEFORE INSERT ON arrived_shops
WHEN EXISTS (SELECT 1 FROM purged WHERE kind = 'shop' AND id = NEW.shop_id)
BEGIN SELECT RAISE(IGNORE); END;
ALTER TABLE work_shops ADD COLUMN fresh_after INTEGER NOT NULL DEFAULT 9223372036854775807;
  -- rows of listings that are younger are reused
ALTER TABLE work_shops ADD COLUMN reused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE work_shops ADD COLUMN shop_at INTEGER;  -- of the shop object; NULL: as the sync
"""

MIGRATIONS: Final[tuple[Migration, ...]] = (
    _SNAPSHOTS + _STATE + _WORK,
    _DRIFT,
    PURGED,
    _UNSENT,
    MARKS,
    SET_ASIDE_TABLE,
    CURSOR_TABLE + _REUSE,
)

FIXED_COLUMNS: Final = {
    "shops": ("shop_id", "snapshot_timestamp"),
    "shops_dynamic": ("shop_id", "snapshot_timestamp"),
    "listings": ("listing_id", "snapshot_timestamp", "shop_id"),
    "listings_dynamic": ("listing_id", "snapshot_timestamp"),
    "reviews": ("snapshot_timestamp",),
}
"""Columns that a table always has; all of them INTEGER."""


def open_history(path: Path, selection: Selection) -> sqlite3.Connection:
    """Open or create the history for writing, and add newly selected columns.

    A newly selected field gets its column, NULL in older rows; a deselected one keeps its column.

    Raises:
        DatabaseUnusable: newer version, another program's file, damaged, or a table that was
            changed by hand; the file is left as it was.
    """
    if path.exists() and path.stat().st_size > 0:
        reader = open_reader(path, APPLICATION_ID, len(MIGRATIONS))
        try:
            _check_tables(reader, path)
        finally:
            reader.close()
    connection = open_database(path, APPLICATION_ID, MIGRATIONS)
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
    try:
        with transaction(connection):
            _add_columns(connection, selection)
            _define_views(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_history_reader(path: Path) -> sqlite3.Connection:
    """Open an existing history read-only; never blocks the sync and is never blocked.

    Raises:
        DatabaseUnusable: missing, damaged, or another program's file.
    """
    return open_reader(path, APPLICATION_ID, len(MIGRATIONS))


def stored_columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """The columns of a snapshot table and their SQL types, keys first."""
    columns = dict.fromkeys(FIXED_COLUMNS[table], "INTEGER")
    rows = connection.execute("SELECT name, type FROM pragma_table_info(?) ORDER BY cid", (table,))
    found = {name: sql_type for name, sql_type in rows if name not in {*columns, COLUMN}}
    return {**columns, **found}


def right_rows(connection: sqlite3.Connection, table: str) -> str:
    """A condition on a snapshot table: no wrong clock wrote the row; true in an older file."""
    names = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return f"{COLUMN} IS NULL" if (COLUMN,) in map(tuple, names) else "true"


def _check_tables(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 or version > len(MIGRATIONS):
        return  # nothing here yet; or open_database will say what is wrong
    expected = {table: dict.fromkeys(names, "INTEGER") for table, names in FIXED_COLUMNS.items()}
    try:
        for table, column, sql_type in connection.execute("SELECT * FROM stored_columns"):
            expected[table][column] = sql_type
        strict = dict(connection.execute("SELECT name, strict FROM pragma_table_list"))
    except (sqlite3.OperationalError, KeyError) as error:
        raise _changed(path, f"stored_columns cannot be read: {error}") from error
    for table, columns in {**expected, **_other_columns(version)}.items():
        rows = connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,))
        found: dict[str, str] = dict(list(map(tuple, rows)))
        if not found:
            raise _changed(path, f"table {table} is missing")
        for name, sql_type in columns.items():
            if name not in found:
                raise _changed(path, f"table {table} has no column {name}")
            if found[name].upper() != sql_type:
                raise _changed(path, f"column {name} of {table} is {found[name]}, not {sql_type}")
        if not strict[table]:
            raise _changed(path, f"table {table} is no longer STRICT")


def _changed(path: Path, what: str) -> DatabaseUnusable:
    return DatabaseUnusable(
        f"{path} was changed by hand ({what}): undo that, restore a backup, or move the file away"
        " to start with a new one."
    )


def _other_columns(version: int) -> dict[str, dict[str, str]]:
    """Columns of the tables that no setting changes, as the file's own version made them."""
    model = sqlite3.connect(":memory:")
    try:
        for script in MIGRATIONS[:version]:
            if callable(script):
                script(model)
            else:
                model.executescript(script)
        tables = model.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            table: dict(model.execute("SELECT name, type FROM pragma_table_info(?)", (table,)))
            for (table,) in tables
            if table not in FIXED_COLUMNS
        }
    finally:
        model.close()


def _add_columns(connection: sqlite3.Connection, selection: Selection) -> None:
    for table, fields in selection.by_table().items():
        found = stored_columns(connection, table)
        for name, sql_type in (column for field in fields for column in field.columns):
            if name not in found:
                connection.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" {sql_type}')
                connection.execute(
                    "INSERT INTO stored_columns VALUES (?, ?, ?)", (table, name, sql_type)
                )


def _define_views(connection: sqlite3.Connection) -> None:
    """Create the views again if the columns have changed."""
    for kind, key, extra in (("shops", "shop_id", _LAST_REVIEW), ("listings", "listing_id", "")):
        view = f"{kind}_latest"
        sql = _latest(connection, kind, key, extra)
        row = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (view,)).fetchone()
        if row is None or row[0] != sql:
            connection.execute(f"DROP VIEW IF EXISTS {view}")
            connection.execute(sql)


_LAST_REVIEW: Final = """,
    (SELECT max(create_timestamp) FROM reviews r WHERE r.shop_id = d.shop_id)
        AS last_review_timestamp"""


def _latest(connection: sqlite3.Connection, kind: str, key: str, extra: str) -> str:
    """Newest dynamic row of each id with the newest static row at or before it.

    Both are found by seeking in the key's index from each candidate row, so that a condition on
    the id (or on anything a static row is indexed by) reads only that id's few rows.
    """
    skip = {key, "snapshot_timestamp"}
    static = [name for name in stored_columns(connection, kind) if name not in skip]
    dynamic = [name for name in stored_columns(connection, f"{kind}_dynamic") if name not in skip]
    columns = ",\n    ".join(
        [f"d.{key}", "d.snapshot_timestamp", "s.snapshot_timestamp AS static_timestamp"]
        + [f's."{name}"' for name in static]
        + [f'd."{name}"' for name in dynamic]
    )
    return f"""CREATE VIEW {kind}_latest AS
SELECT
    {columns}{extra}
FROM {kind}_dynamic d
LEFT JOIN {kind} s ON s.{key} = d.{key} AND s.snapshot_timestamp = (
    SELECT max(t.snapshot_timestamp) FROM {kind} t
    WHERE t.{key} = d.{key} AND t.snapshot_timestamp <= d.snapshot_timestamp
        AND t.{COLUMN} IS NULL)
WHERE d.{COLUMN} IS NULL AND NOT EXISTS (
    SELECT 1 FROM {kind}_dynamic n
    WHERE n.{key} = d.{key} AND n.snapshot_timestamp > d.snapshot_timestamp
        AND n.{COLUMN} IS NULL)"""
