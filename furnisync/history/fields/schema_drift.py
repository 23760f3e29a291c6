"""Schema drift: once a week, the fields of answers are compared with earlier ones and with ours.

`FieldWatch` samples a few objects of each answer. `record_drift` compares and stores them, and
reports each change once.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, Literal

from furnisync.clock import WEEK_S
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Object

ObjectKind = Literal["shops", "listings", "reviews"]

LOOKED_AT_OF_AN_ANSWER: Final = 20
ENOUGH: Final = 100
"""With fewer objects, an absent field means nothing: many are absent now and then."""

_JSON_TYPES: Final = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "array",
    dict: "object",
}


class FieldWatch:
    """The fields of a run's objects and their JSON types; null has no type.

    It collects until there is enough to compare.
    """

    def __init__(self) -> None:
        self.number: dict[ObjectKind, int] = {}
        self.types: dict[ObjectKind, dict[str, set[str]]] = {}

    def look(self, kind: ObjectKind, objects: Iterable[Object]) -> None:
        """Sample the first few objects of an answer."""
        fields = self.types.setdefault(kind, {})
        for _, one in zip(range(LOOKED_AT_OF_AN_ANSWER), objects, strict=False):
            self.number[kind] = self.number.get(kind, 0) + 1
            for name, value in one.items():
                types = fields.setdefault(name, set())
                if value is not None:
                    types.add(_JSON_TYPES.get(type(value), type(value).__name__))

    def take(self) -> dict[ObjectKind, dict[str, set[str]]]:
        """The kinds with enough samples; their collection starts again."""
        kinds = [kind for kind, number in self.number.items() if number >= ENOUGH]
        for kind in kinds:
            del self.number[kind]
        return {kind: self.types.pop(kind) for kind in kinds}


def record_drift(
    connection: sqlite3.Connection, watch: FieldWatch, selection: Selection, now_s: float
) -> list[str]:
    """Compare the samples with the stored fields if the last comparison is a week old.

    Returns:
        a message for each change; each is reported once.
    """
    changes: list[str] = []
    for kind, fields in watch.take().items():
        last = connection.execute(
            "SELECT max(compared) FROM api_fields WHERE kind = ?", (kind,)
        ).fetchone()[0]
        if last is not None and now_s - last < WEEK_S:
            continue
        known = _load(connection, kind)
        changes += _new_and_changed(kind, fields, known)
        changes += _gone(kind, fields, known, _selected(selection, kind))
        _save(connection, kind, fields, known, int(now_s))
    connection.executemany(
        "INSERT INTO drift VALUES (?, ?)", [(int(now_s), one) for one in changes]
    )
    return changes


def _load(connection: sqlite3.Connection, kind: ObjectKind) -> dict[str, set[str]]:
    rows = connection.execute("SELECT field, types FROM api_fields WHERE kind = ?", (kind,))
    return {name: set(types.split()) for name, types in rows}


def _new_and_changed(
    kind: ObjectKind, fields: dict[str, set[str]], known: dict[str, set[str]]
) -> Iterable[str]:
    for name, types in sorted(fields.items()):
        if known and name not in known:
            seen = " or ".join(sorted(types)) or "null"
            yield f"Etsy sends a new field of {kind}: {name} ({seen})"
        elif known.get(name) and types - known[name]:
            before, now = " or ".join(sorted(known[name])), " or ".join(sorted(types))
            yield f"Etsy sends {name} of {kind} as {now} now, before as {before}"


def _gone(
    kind: ObjectKind, fields: dict[str, set[str]], known: dict[str, set[str]], selected: set[str]
) -> Iterable[str]:
    for name in sorted(selected - fields.keys()):
        if not known or name in known:
            yield f"Etsy no longer sends the field {name} of {kind}, which is stored here"


def _selected(selection: Selection, kind: ObjectKind) -> set[str]:
    """Names that the API should send; a field with a twin may have the other name."""
    fields = {"shops": selection.shops, "listings": selection.listings}.get(kind, selection.reviews)
    return {field.name for field in fields if field.twin is None}


def _save(
    connection: sqlite3.Connection,
    kind: ObjectKind,
    fields: dict[str, set[str]],
    known: dict[str, set[str]],
    now: int,
) -> None:
    """Store the samples; an absent field is removed, so that its return is reported."""
    connection.execute("DELETE FROM api_fields WHERE kind = ?", (kind,))
    connection.executemany(
        "INSERT INTO api_fields VALUES (?, ?, ?, ?)",
        [
            (kind, name, " ".join(sorted(types | known.get(name, set()))), now)
            for name, types in fields.items()
        ],
    )


def read_drift(connection: sqlite3.Connection, limit: int = 10) -> list[tuple[int, str]]:
    """The newest changes: (unix seconds, message)."""
    rows = connection.execute("SELECT at, message FROM drift ORDER BY at DESC LIMIT ?", (limit,))
    return [tuple(row) for row in rows]
