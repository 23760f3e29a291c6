"""Many rows in few statements: a statement for each row costs more than the row."""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

__all__ = ["in_groups", "insert_many", "values"]

GROUPS = (100, 20, 4, 1)
"""Rows of a statement: few sizes, so that SQLite keeps the statements compiled. More than 100 gain
nothing, and SQLite takes 32,766 values at most."""

Values = Sequence[object]


def insert_many(
    connection: sqlite3.Connection, insert: str, rows: Sequence[Values], conflict: str = ""
) -> int:
    """Insert rows.

    Args:
        connection: inside a transaction.
        insert: up to the columns: `INSERT INTO table (a, b)`.
        rows: of the same length.
        conflict: what follows the values: `ON CONFLICT DO NOTHING`.

    Returns:
        how many rows were inserted or updated.
    """
    changed = 0
    for some in in_groups(rows):
        statement = f"{insert} VALUES {values(len(some), len(some[0]))} {conflict}"
        changed += connection.execute(statement, list(chain.from_iterable(some))).rowcount
    return changed


def in_groups(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    """Split rows into groups of few sizes."""
    begin = 0
    for size in GROUPS:
        while len(rows) - begin >= size:
            yield rows[begin : begin + size]
            begin += size


@lru_cache(maxsize=64)
def values(rows: int, width: int) -> str:
    """The placeholders of some rows, each in parentheses."""
    return ",".join([f"({','.join('?' * width)})"] * rows)
