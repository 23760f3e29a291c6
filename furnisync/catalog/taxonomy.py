"""The seller taxonomy as last seen."""

import sqlite3
from collections.abc import Iterable

NodeRow = tuple[int, int | None, str | None]
"""taxonomy_id, parent_id, name."""


def save_nodes(connection: sqlite3.Connection, nodes: Iterable[NodeRow]) -> None:
    """Replace the tree by a newer one."""
    connection.execute("DELETE FROM taxonomy")
    connection.executemany(
        "INSERT INTO taxonomy (taxonomy_id, parent_id, name) VALUES (?, ?, ?)", nodes
    )


def load_nodes(connection: sqlite3.Connection) -> list[NodeRow]:
    """The tree's nodes; empty where it was never seen."""
    rows = connection.execute("SELECT taxonomy_id, parent_id, name FROM taxonomy")
    return [tuple(row) for row in rows]
