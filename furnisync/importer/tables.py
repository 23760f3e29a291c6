"""What the tables of an older tool's database hold: known by name, else by their columns.

The tool renamed its tables from version to version (`listings`, later `listings_static`) and kept
copies. All tables of one role are read as one, so that no row of either is lost.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from furnisync.history.fields.definitions import LISTING_FIELDS, SHOP_FIELDS, Field

Role = Literal[
    "shops",
    "shops_dynamic",
    "listings",
    "listings_dynamic",
    "reviews",
    "sync_state",
    "image_status",
]
ROLES: Final[tuple[Role, ...]] = (
    "shops", "shops_dynamic", "listings", "listings_dynamic", "reviews", "sync_state",
    "image_status",
)  # fmt: skip
KEYS: Final = {"shops": "shop_id", "listings": "listing_id"}
Row = dict[str, Any]
_RENAMED: Final = {"price_currency": "price_currency_code"}
_MONEY: Final = ("amount", "divisor", "currency_code")
_IMAGE_IDS: Final = {"image_id", "listing_image_id"}
_OF_IMAGES: Final = {"url", "hex", "is_primary", "download_done"}
_MIN_STATIC: Final = 3
_MIN_DYNAMIC: Final = 2
"""So many fields of Etsy's API make a table one of shops or listings; fewer may be a work list."""


class SourceTable(msgspec.Struct, frozen=True):
    """A table with the names of its columns."""

    name: str
    columns: tuple[str, ...]


def find_tables(connection: sqlite3.Connection) -> list[SourceTable]:
    """All tables of a database that hold rows of their own: no views, no search indexes."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    ).fetchall()
    columns = "SELECT name FROM pragma_table_info(?)"
    return [
        SourceTable(name, tuple(row[0] for row in connection.execute(columns, (name,))))
        for (name,) in names
    ]


def role_of(table: SourceTable) -> Role | None:
    """What a table holds; None if that is not known."""
    has = set(table.columns)
    found: Role | None = next((role for role in ROLES if role == table.name), None)
    if found is None and has >= {"key", "value"}:
        found = "sync_state"
    elif found is None and "rating" in has and has & {"shop_id", "listing_id"}:
        found = "reviews"
    elif found is None and "listing_id" in has and has & _IMAGE_IDS:
        found = "image_status" if has & _OF_IMAGES else None
    elif found is None and "listing_id" in has:
        found = _by_fields(has, LISTING_FIELDS, "listings", "listings_dynamic")
    elif found is None and "shop_id" in has:
        found = _by_fields(has, SHOP_FIELDS, "shops", "shops_dynamic")
    return found


def _by_fields(
    columns: set[str], fields: tuple[Field, ...], static: Role, dynamic: Role
) -> Role | None:
    """Static tables have a row for each id, dynamic ones a row for each snapshot."""
    held = FieldColumns(sorted(columns), fields).names - set(KEYS.values())
    changing = sum(one.dynamic for one in fields if one.name in held)
    if "snapshot_timestamp" in columns and 2 * changing > len(held) >= _MIN_DYNAMIC:
        return dynamic
    return static if len(held) - changing >= _MIN_STATIC else None


def select_all(tables: list[SourceTable], columns: list[str]) -> str:
    """SQL that reads some tables as one; a column that a table lacks is null."""
    return " UNION ALL ".join(
        "SELECT "
        + ", ".join(
            f"{quote(name) if name in table.columns else 'NULL'} AS {quote(name)}"
            for name in columns
        )
        + f" FROM {quote(table.name)}"
        for table in tables
    )


def quote(name: str) -> str:
    """A name of a table or column in SQL."""
    return '"' + name.replace('"', '""') + '"'


class FieldColumns:
    """Which columns of a table hold which fields of the API; reads the fields out of a row."""

    def __init__(self, columns: list[str], fields: tuple[Field, ...]) -> None:
        named = {_RENAMED.get(column, column): column for column in columns}
        self._plain = {one.name: named[one.name] for one in fields if one.name in named}
        self._json = {one.name for one in fields if one.kind == "json"}
        self._money = {
            one.name: {
                part: column for part in _MONEY if (column := named.get(f"{one.name}_{part}"))
            }
            for one in fields
            if one.kind == "money" and f"{one.name}_amount" in named
        }
        self.names = frozenset((*self._plain, *self._money))
        """Fields that the table has."""
        used = {*self._plain.values(), "id", "snapshot_timestamp"}
        used = used.union(*(parts.values() for parts in self._money.values()))
        self.unknown = tuple(column for column in columns if column not in used)
        """Columns that hold no field of the API."""

    def read(self, row: Mapping[str, Any]) -> Row:
        """The row's values that are not null, by field."""
        values: Row = {}
        for name, column in self._plain.items():
            if (value := row[column]) is not None:
                values[name] = _decoded(value) if name in self._json else value
        for name, parts in self._money.items():
            money = {part: row[column] for part, column in parts.items()}
            if any(value is not None for value in money.values()):
                values[name] = money
        return values


def _decoded(value: object) -> object:
    """The array or object of a JSON text; anything else unchanged."""
    try:
        decoded = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
    return decoded if isinstance(decoded, list | dict) else value
