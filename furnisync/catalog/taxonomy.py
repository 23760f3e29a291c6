"""The seller taxonomy as last read; nodes that Etsy dropped are marked."""

import sqlite3
from collections.abc import Sequence

import msgspec

NodeRow = tuple[int, int | None, str | None]
"""taxonomy_id, parent_id, name."""


class Changes(msgspec.Struct, frozen=True):
    """Ids of nodes that Etsy added and dropped since the tree was last read."""

    added: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


def save_nodes(connection: sqlite3.Connection, nodes: Sequence[NodeRow], now: int) -> Changes:
    """Store a newer tree.

    Returns:
        what changed; empty for the first tree.
    """
    before = {row[0] for row in load_nodes(connection)}
    present = {node[0] for node in nodes}
    connection.executemany(
        "UPDATE taxonomy SET dropped_at = ? WHERE taxonomy_id = ?",
        [(now, taxonomy_id) for taxonomy_id in before - present],
    )
    connection.executemany(
        "INSERT INTO taxonomy (taxonomy_id, parent_id, name) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET parent_id = excluded.parent_id, name = excluded.name,"
        " dropped_at = NULL",
        nodes,
    )
    if not before:
        return Changes()
    return Changes(tuple(sorted(present - before)), tuple(sorted(before - present)))


def load_nodes(connection: sqlite3.Connection) -> list[NodeRow]:
    """The tree's nodes; empty where it was never read."""
    rows = connection.execute(
        "SELECT taxonomy_id, parent_id, name FROM taxonomy WHERE dropped_at IS NULL"
    )
    return [tuple(row) for row in rows]


def load_dropped(connection: sqlite3.Connection) -> set[int]:
    """Ids of nodes that Etsy once had."""
    rows = connection.execute("SELECT taxonomy_id FROM taxonomy WHERE dropped_at IS NOT NULL")
    return {row[0] for row in rows}
