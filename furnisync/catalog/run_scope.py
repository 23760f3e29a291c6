"""The listings that a run is restricted to, by `--limit` or an ids file: a temporary table.

As a parameter of each claim, 300,000 ids would be written and read again hundreds of times.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final

__all__ = ["WITHIN_SCOPE", "restrict"]

_TABLE: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS run_scope (listing_id INTEGER PRIMARY KEY) WITHOUT ROWID"
)
WITHIN_SCOPE: Final = "AND listing_id IN temp.run_scope"
"""A condition of the catalog's writer, for runs that are restricted."""


def restrict(connection: sqlite3.Connection, listing_ids: Iterable[int]) -> None:
    """Restrict the run to these listings, and to those of earlier calls."""
    connection.execute(_TABLE)
    connection.executemany(
        "INSERT OR IGNORE INTO run_scope VALUES (?)", ((one,) for one in listing_ids)
    )
