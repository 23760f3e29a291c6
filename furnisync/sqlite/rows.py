"""Many rows in few statements: a statement for each row costs more than the row."""

import sqlite3
from collections.abc import Sequence

__all__ = ["ROWS_AT_ONCE", "insert_many", "values"]

ROWS_AT_ONCE = 100
"""More gain nothing; SQLite takes 32,766 values in a statement."""

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
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[begin : begin + ROWS_AT_ONCE]
        statement = f"{insert} VALUES {values(len(some), len(some[0]))} {conflict}"
        changed += connection.execute(statement, [one for row in some for one in row]).rowcount
    return changed


def values(rows: int, width: int) -> str:
    """The placeholders of some rows, each in parentheses."""
    return ",".join([f"({','.join('?' * width)})"] * rows)
