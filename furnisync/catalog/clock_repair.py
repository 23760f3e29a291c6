"""Repairs times ahead of now: a wrong clock wrote them, and what is due then would wait for years.

A machine whose clock was ahead for a while and is right again continues normally.
"""

import sqlite3

from furnisync.catalog.image_queue import FAILED_RETRY_MAX_S
from furnisync.catalog.schema import get_meta, set_meta
from furnisync.clock import DAY_S

TIMES = ("looked_at", "taxonomy_at", "reset_at", "alive_at", "recheck_since", "sweep_since")


def times_ahead(connection: sqlite3.Connection, now: int, refresh_s: int) -> bool:
    """Whether there are any: a clock was ahead, or ours is behind now. Fast at any size."""
    found = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM images WHERE next_try > ?1 + ?3 + ?4)"
        " OR EXISTS (SELECT 1 FROM images WHERE done_at > ?1 + ?4)"
        " OR EXISTS (SELECT 1 FROM listings WHERE batch_due > ?1 + ?2 + ?4)"
        " OR EXISTS (SELECT 1 FROM shops WHERE synced_at > ?1 + ?4)"
        " OR EXISTS (SELECT 1 FROM passes WHERE started_at > ?1 + ?4)",
        (now, refresh_s, FAILED_RETRY_MAX_S, DAY_S),
    ).fetchone()[0]
    return bool(found) or any(int(get_meta(connection, key) or 0) > now + DAY_S for key in TIMES)


def repair_times(connection: sqlite3.Connection, now: int, refresh_s: int) -> None:
    """Set times ahead of now to now, or to when they are due from now.

    `now` must be right: with a clock that is behind, all right times would be lost.
    """
    connection.execute(
        "UPDATE images SET next_try = ? WHERE next_try > ?", (now, now + FAILED_RETRY_MAX_S + DAY_S)
    )
    connection.execute(
        "UPDATE listings SET batch_due = ?1 + iif(batched_at IS NULL, 0, ?2)"
        " WHERE batch_due > ?1 + ?2 + ?3",
        (now, refresh_s, DAY_S),
    )
    connection.execute("UPDATE images SET done_at = ?1 WHERE done_at > ?1 + ?2", (now, DAY_S))
    connection.execute("UPDATE shops SET synced_at = NULL WHERE synced_at > ?", (now + DAY_S,))
    connection.execute(
        "UPDATE passes SET complete = 0, started_at = ?1, finished_at = min(finished_at, ?1)"
        " WHERE started_at > ?1 + ?2",
        (now, DAY_S),
    )
    for key in TIMES:
        if int(get_meta(connection, key) or 0) > now + DAY_S:
            set_meta(connection, key, str(now))
