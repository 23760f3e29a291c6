"""Tables of the catalog.

A listing with `batch_due` is due for batch from that time on, an image with `next_try` for the CDN.
Both have partial indexes, so that a claim costs the same at any size. For totals see `counters.py`.
"""

import sqlite3
from pathlib import Path

from furnisync.catalog.altered import ALTERED
from furnisync.catalog.counters import count_rows, let_triggers_rest
from furnisync.catalog.purge import PURGED
from furnisync.catalog.reason_codes import add_reason_codes
from furnisync.outbox import CURSOR_TABLE
from furnisync.sqlite.database import Migration, open_database, open_reader

APPLICATION_ID = 0x46534341  # "FSCA"

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE taxonomy (
    taxonomy_id INTEGER PRIMARY KEY,
    parent_id INTEGER,
    name TEXT,
    dropped_at INTEGER             -- when Etsy no longer had it; NULL: it has
) STRICT;

CREATE TABLE events (              -- notices for a person
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;

CREATE TABLE shops (
    shop_id INTEGER PRIMARY KEY,
    first_seen INTEGER NOT NULL,
    synced_at INTEGER,             -- when all its furniture was last seen; NULL: due
    reason TEXT                    -- why the last try to read it failed
) STRICT;
CREATE INDEX shops_due ON shops (synced_at);
CREATE INDEX shops_trouble ON shops (reason) WHERE reason IS NOT NULL;

CREATE TABLE listings (
    listing_id INTEGER PRIMARY KEY,
    shop_id INTEGER,
    taxonomy_id INTEGER,
    state TEXT,                    -- Etsy's, or 'gone' when Etsy has it no longer
    price_usd REAL,
    created INTEGER,
    first_seen INTEGER NOT NULL,
    last_listed INTEGER,           -- when an active list last named it
    pass_id INTEGER,               -- the last pass that saw it
    batch_due INTEGER,             -- ask batch from then on; NULL: not wanted
    batch_tries INTEGER NOT NULL DEFAULT 0,
    batched_at INTEGER,            -- when batch last gave its images
    reason TEXT                    -- why the last batch brought nothing
) STRICT;
CREATE INDEX listings_batch ON listings (batch_due) WHERE batch_due IS NOT NULL;
CREATE INDEX listings_trouble ON listings (reason)
    WHERE reason IS NOT NULL AND batch_due IS NOT NULL;
CREATE INDEX listings_shop ON listings (shop_id);

CREATE TABLE images (
    listing_id INTEGER NOT NULL,
    image_id INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    url TEXT NOT NULL,             -- exactly as the API gave it
    status TEXT NOT NULL CHECK (
        status IN ('pending', 'done', 'gone', 'bad', 'failed', 'unwanted')
    ),
    next_try INTEGER,              -- ask the CDN from then on; NULL: not in the queue
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT,
    file TEXT,                     -- the stored file, relative to the image folder
    size TEXT,                     -- the CDN size of that file
    bytes INTEGER,
    width INTEGER,
    height INTEGER,
    sha256 BLOB,
    done_at INTEGER,
    PRIMARY KEY (listing_id, image_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX images_queue ON images (next_try) WHERE next_try IS NOT NULL;
CREATE INDEX images_done ON images (done_at) WHERE done_at IS NOT NULL;
CREATE INDEX images_trouble ON images (status, reason) WHERE status IN ('gone', 'bad', 'failed');

CREATE TABLE passes (
    pass_id INTEGER PRIMARY KEY,
    plan TEXT NOT NULL,            -- fingerprint of the taxonomies that it reads
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    complete INTEGER               -- 1: every interval read whole
) STRICT;

CREATE TABLE intervals (
    interval_id INTEGER PRIMARY KEY,
    pass_id INTEGER REFERENCES passes,
    taxonomy_id INTEGER,
    shop_id INTEGER,               -- instead of pass and taxonomy: the list of one shop
    low REAL,                      -- US dollars, inclusive; NULL: open
    high REAL,
    part TEXT NOT NULL CHECK (part IN ('whole', 'oldest', 'newest')),
    state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed', 'split')),
    count INTEGER,                 -- as Etsy last said it
    found INTEGER,                 -- distinct listings that came
    reason TEXT,
    done_at INTEGER,
    parent INTEGER REFERENCES intervals
) STRICT;
CREATE INDEX intervals_pass ON intervals (pass_id, state);
CREATE INDEX intervals_parent ON intervals (parent) WHERE parent IS NOT NULL;
CREATE INDEX intervals_shop ON intervals (shop_id) WHERE shop_id IS NOT NULL;

CREATE TABLE pages (
    interval_id INTEGER NOT NULL REFERENCES intervals,
    start INTEGER NOT NULL,        -- offset
    sent INTEGER NOT NULL,         -- number of results in the answer
    count INTEGER,
    items TEXT NOT NULL,           -- JSON [[listing_id, created], ...]
    tries INTEGER NOT NULL DEFAULT 1,
    fetched_at INTEGER NOT NULL,
    PRIMARY KEY (interval_id, start)
) STRICT, WITHOUT ROWID;
"""


_WAVES = "ALTER TABLE pages ADD COLUMN wave INTEGER NOT NULL DEFAULT 1;"

_OVERSIZE = """
ALTER TABLE intervals ADD COLUMN sort_on TEXT NOT NULL DEFAULT 'created';
ALTER TABLE intervals ADD COLUMN proven INTEGER;  -- oversize: the ends met (1) or not (0)
"""

_SET_ASIDE = """
ALTER TABLE listings ADD COLUMN batch_failures INTEGER NOT NULL DEFAULT 0;
  -- tries in which it alone made a batch fail: it is asked alone until it is answered
"""


def _allow_no_rank(connection: sqlite3.Connection) -> None:
    """Let `images.rank` be NULL, for images that their listing no longer shows.

    SQLite's way to drop a NOT NULL without writing the table again, which may hold ten million
    rows: https://www.sqlite.org/lang_altertable.html#otheralter
    """
    version = connection.execute("PRAGMA schema_version").fetchone()[0]
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, 'rank INTEGER NOT NULL', 'rank INTEGER')"
        " WHERE type = 'table' AND name = 'images'"
    )
    connection.execute(f"PRAGMA schema_version = {version + 1}")
    connection.execute("PRAGMA writable_schema = OFF")


MIGRATIONS: tuple[Migration, ...] = (
    _FIRST,
    count_rows,
    _WAVES,
    _OVERSIZE,
    PURGED,
    ALTERED,
    add_reason_codes,
    _SET_ASIDE,
    _allow_no_rank,
    let_triggers_rest,
    CURSOR_TABLE,
)


def open_catalog(path: Path) -> sqlite3.Connection:
    """Open the catalog for its one writer; create or migrate it where needed.

    Raises:
        DatabaseUnusable: see `sqlite.open_database`.
    """
    return open_database(path, APPLICATION_ID, MIGRATIONS)


def read_catalog(path: Path) -> sqlite3.Connection:
    """Open the catalog read-only.

    Raises:
        DatabaseUnusable: missing, or not ours.
    """
    return open_reader(path, APPLICATION_ID, len(MIGRATIONS), oldest=len(MIGRATIONS))


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A stored value, None where there is none."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(connection: sqlite3.Connection, key: str, value: str | None) -> None:
    """Store a value; None deletes it."""
    if value is None:
        connection.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (key, value),
        )


def add_event(connection: sqlite3.Connection, now: int, kind: str, message: str) -> None:
    """Record a notice for `status`."""
    connection.execute("INSERT INTO events VALUES (?, ?, ?)", (now, kind, message))
