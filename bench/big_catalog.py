"""Makes a catalog of any size in seconds: the real schema, filled by SQL in bulk.

Nine of ten images are done, the others wait, fail or are gone. The newest pass ended 31 days ago,
so that a run begins with a new one. Ids lie far from those of a sandbox.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from furnisync.catalog.schema import open_catalog
from furnisync.sqlite.database import transaction

IMAGES_A_LISTING = 7
LISTINGS_A_SHOP = 20
FIRST_ID = 50_000_000_000
DAY_S = 86_400

_NUMBERS = (
    "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {})"
)
_LISTINGS = """
INSERT INTO listings (listing_id, shop_id, taxonomy_id, state, price_usd, created, first_seen,
    last_listed, pass_id, batch_due, batched_at)
{numbers} SELECT :first + n, :first + n / :a_shop, 12371, 'active', 10 + n % 900,
    :now - n % 10000000, :now - 40 * 86400, :now - 31 * 86400, 1,
    :now + n % 2592000 + 86400, :now - 31 * 86400 FROM number
"""
_IMAGES = """
INSERT INTO images (listing_id, image_id, rank, url, status, next_try, attempts, reason,
    reason_detail, file, size, bytes, width, height, sha256, done_at)
{numbers},
one AS (SELECT :first + n / :each AS listing, :first + n AS image, n % :each + 1 AS rank,
    CASE WHEN n / 10 % 10 < 9 THEN 'done' WHEN n % 100 < 98 THEN 'pending'
         WHEN n % 2 THEN 'failed' ELSE 'gone' END AS status FROM number)
SELECT listing, image, rank,
    'http://{host}/' || listing || '/r/il/0a1b2c/' || image || '/il_570xN.' || image || '_ab3d.jpg',
    status, CASE status WHEN 'pending' THEN :now - 86400 WHEN 'failed' THEN :now + 432000 END,
    status IN ('failed', 'gone'),
    CASE WHEN status IN ('failed', 'gone') THEN 'http_status' END,
    CASE status WHEN 'failed' THEN '503' WHEN 'gone' THEN '404' END,
    CASE status WHEN 'done' THEN printf('%03d/%d_%d.jpg', listing % 1000, listing, image) END,
    CASE status WHEN 'done' THEN '570xN' END, CASE status WHEN 'done' THEN 45000 END,
    CASE status WHEN 'done' THEN 570 END, CASE status WHEN 'done' THEN 600 END,
    CASE status WHEN 'done' THEN randomblob(32) END,
    CASE status WHEN 'done' THEN :now - 86400 * 32 - image % 1000000 END
FROM one
"""
_COUNTERS = """
INSERT INTO counters
SELECT 'images.' || status, count(*) FROM images GROUP BY status
UNION ALL SELECT 'images.bytes', sum(bytes) FROM images
UNION ALL SELECT 'listings.' || state, count(*) FROM listings GROUP BY state
UNION ALL SELECT 'shops', count(*) FROM shops
"""


def make_catalog(path: Path, images: int, cdn_host: str, now: int) -> None:
    """Make it, with so many images of `IMAGES_A_LISTING` times fewer listings."""
    with closing(open_catalog(path)) as catalog:
        catalog.execute("PRAGMA journal_mode = OFF")
        catalog.execute("PRAGMA synchronous = OFF")
        with transaction(catalog):
            later = _put_aside(catalog)
            _fill(catalog, images, cdn_host, now)
            for sql in later:
                catalog.execute(sql)
        catalog.execute("PRAGMA journal_mode = WAL")


def _put_aside(catalog: sqlite3.Connection) -> list[str]:
    """Drop indexes and triggers, which would slow the filling; returns how to make them again."""
    rows = catalog.execute(
        "SELECT type, name, sql FROM sqlite_schema"
        " WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
    ).fetchall()
    for kind, name, _ in rows:
        catalog.execute(f"DROP {kind} {name}")
    return [sql for _, _, sql in rows]


def _fill(catalog: sqlite3.Connection, images: int, cdn_host: str, now: int) -> None:
    values = {
        "now": now,
        "first": FIRST_ID,
        "each": IMAGES_A_LISTING,
        "a_shop": LISTINGS_A_SHOP,
    }
    catalog.execute(
        "INSERT INTO passes VALUES (1, '967:0-1e+06', ?, ?, 1)",
        (now - 31 * DAY_S, now - 31 * DAY_S + 3600),
    )
    listings = images // IMAGES_A_LISTING
    catalog.execute(_LISTINGS.format(numbers=_NUMBERS.format(listings)), values)
    catalog.execute(
        "INSERT INTO shops SELECT DISTINCT shop_id, ?, ?, NULL FROM listings",
        (now - 40 * DAY_S, now - 31 * DAY_S),
    )
    images = listings * IMAGES_A_LISTING
    catalog.execute(_IMAGES.format(numbers=_NUMBERS.format(images), host=cdn_host), values)
    catalog.execute("INSERT INTO meta VALUES ('wanted', 'all 570xN'), ('clean_end', '1')")
    catalog.execute(_COUNTERS)
