"""Listings that make each batch call fail: set aside, so that their shops are synced without them.

Each is asked alone when it is due again, after waits that grow. In `work_ids` they have a status
of their own: neither here nor gone, the snapshot leaves them out.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Final

from furnisync.history.fields.values import as_json
from furnisync.limits import retry_wait

TABLE: Final = """
CREATE TABLE set_aside (
    listing_id INTEGER PRIMARY KEY,
    failures INTEGER NOT NULL,
    not_before INTEGER NOT NULL,  -- ask it again from then on, alone
    reason TEXT NOT NULL
) STRICT;
"""
SET_ASIDE: Final = 3
"""The status in `work_ids`."""
_WAITS: Final = "SELECT listing_id FROM set_aside WHERE not_before > "


def set_aside(connection: sqlite3.Connection, blamed: Mapping[int, str], now_s: float) -> list[int]:
    """Set listings aside, with the reason, in all syncs under way.

    Returns:
        shops whose sync waits for no other listing now.
    """
    connection.executemany(
        f"""INSERT INTO set_aside VALUES (:id, 1, :now + {retry_wait("0")}, :reason)
        ON CONFLICT DO UPDATE SET not_before = :now + {retry_wait("failures")},
            failures = failures + 1, reason = :reason""",
        [{"id": one, "now": int(now_s), "reason": reason} for one, reason in blamed.items()],
    )
    return _leave_out(
        connection,
        "listing_id IN (SELECT value FROM json_each(?))",
        as_json(list(blamed)),
    )


def leave_out(connection: sqlite3.Connection, sync_id: int) -> None:
    """Leave out of a sync the listings that are set aside and not due again."""
    if connection.execute("SELECT EXISTS (SELECT 1 FROM set_aside)").fetchone()[0]:
        since = "(SELECT snapshot_timestamp FROM work_shops WHERE sync_id = ?1)"
        _leave_out(connection, f"sync_id = ?1 AND listing_id IN ({_WAITS} {since})", sync_id)


def forget_set_aside(connection: sqlite3.Connection, listing_ids: Iterable[int]) -> None:
    """These were answered."""
    connection.execute(
        "DELETE FROM set_aside WHERE listing_id IN (SELECT value FROM json_each(?))",
        (as_json(list(listing_ids)),),
    )


def _leave_out(connection: sqlite3.Connection, which: str, value: object) -> list[int]:
    syncs = connection.execute(
        f"UPDATE work_ids SET status = {SET_ASIDE} WHERE status = 0 AND {which} RETURNING sync_id",
        (value,),
    ).fetchall()
    connection.executemany("UPDATE work_shops SET open_ids = open_ids - 1 WHERE sync_id = ?", syncs)
    rows = connection.execute(
        "SELECT shop_id FROM work_shops WHERE open_ids = 0 AND list_offset IS NULL"
        " AND sync_id IN (SELECT value FROM json_each(?))",
        (as_json(sorted({sync_id for (sync_id,) in syncs})),),
    )
    return [shop_id for (shop_id,) in rows]
