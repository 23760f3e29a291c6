"""Totals by state, kept in `counters`, so that `status` reads them at once at any size.

Triggers count each row, and so no code path can forget it. Where hundreds of rows arrive at once,
that costs as much as the rows. There `counted_by_set` makes the triggers rest and counts the set.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["count_rows", "counted_by_set", "let_triggers_rest"]

_ADD = "INSERT INTO counters VALUES ({name}, {by}) ON CONFLICT DO UPDATE SET value = value + {by};"
_TABLES = {
    "listings": ("state", "'listings.' || coalesce({row}.state, 'unknown')", None),
    "images": ("status", "'images.' || {row}.status", "bytes"),
    "shops": ("shop_id", "'shops'", None),
}
"""By table: the counted column, the counter's name, a column that is summed up."""


def count_rows(connection: sqlite3.Connection, unless: str = "") -> None:
    """A migration: triggers that count listings by state, images by status, bytes, shops.

    Args:
        connection: inside a transaction.
        unless: an SQL condition under which they rest.
    """
    rest = f" AND NOT {unless}" if unless else ""
    for table, (column, name, summed) in _TABLES.items():
        add = _ADD.format(name=name.format(row="NEW"), by="1")
        sub = _ADD.format(name=name.format(row="OLD"), by="-1")
        sums = ""
        if summed:
            total = f"'{table}.{summed}'"
            sums = _ADD.format(name=total, by=f"coalesce(NEW.{summed}, 0)")
            difference = f"(coalesce(NEW.{summed}, 0) - coalesce(OLD.{summed}, 0))"
            connection.execute(
                f"CREATE TRIGGER {table}_summed AFTER UPDATE OF {summed} ON {table}"
                f" WHEN NEW.{summed} IS NOT OLD.{summed}"
                f" BEGIN {_ADD.format(name=total, by=difference)} END"
            )
        connection.execute(
            f"CREATE TRIGGER {table}_added AFTER INSERT ON {table} WHEN true{rest}"
            f" BEGIN {add} {sums} END"
        )
        connection.execute(
            f"CREATE TRIGGER {table}_moved AFTER UPDATE OF {column} ON {table}"
            f" WHEN NEW.{column} IS NOT OLD.{column}{rest} BEGIN {sub} {add} END"
        )


def let_triggers_rest(connection: sqlite3.Connection) -> None:
    """A migration: the triggers rest while `counted_by_set` counts, and new images have none.

    A trigger that does nothing costs more than the row of an image. So whoever adds images counts
    them, and leaves out those of purged listings: `image_queue.add_images`, and the importer.
    """
    connection.execute("CREATE TABLE counting_by_set (is_on INTEGER NOT NULL) STRICT")
    for table, (_, _, summed) in _TABLES.items():
        for kind in ("added", "moved", *(["summed"] if summed else [])):
            connection.execute(f"DROP TRIGGER {table}_{kind}")
    count_rows(connection, unless="EXISTS (SELECT 1 FROM counting_by_set)")
    connection.execute("DROP TRIGGER images_added")
    connection.execute("DROP TRIGGER images_purged")


@contextmanager
def counted_by_set(connection: sqlite3.Connection) -> Iterator[Counter[str]]:
    """Within a transaction: no row is counted, but what the caller adds to the counter it gets.

    Deleted rows and bytes are counted by their triggers all the same.
    """
    changes: Counter[str] = Counter()
    connection.execute("INSERT INTO counting_by_set VALUES (1)")
    yield changes
    connection.execute("DELETE FROM counting_by_set")
    connection.executemany(
        "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + ?2",
        [(name, change) for name, change in changes.items() if change],
    )
