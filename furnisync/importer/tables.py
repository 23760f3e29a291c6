"""Which tables of an older tool's database hold what: by name, else by their columns.

The tool renamed its tables from version to version (`listings`, later `listings_static`) and left
copies behind. All tables of one role are read as one, so that nothing of either is lost.
"""

import sqlite3
from typing import Final, Literal

import msgspec

from furnisync.history.fields import LISTING_FIELDS, SHOP_FIELDS, Field

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
_OTHER_COLUMNS: Final = {
    "price_amount": "price",
    "price_divisor": "price",
    "price_currency": "price",
    "price_currency_code": "price",
}
_IMAGE_IDS: Final = {"image_id", "listing_image_id"}
_OF_IMAGES: Final = {"url", "hex", "is_primary", "download_done"}
_LEAST_STATIC: Final = 3
_LEAST_DYNAMIC: Final = 2
"""So many fields of Etsy's API make a table one of shops or listings; fewer may be a work list."""


class OldTable(msgspec.Struct, frozen=True):
    """A table with the names of its columns."""

    name: str
    columns: tuple[str, ...]


def find_tables(connection: sqlite3.Connection) -> list[OldTable]:
    """All tables of a database that hold rows of their own: no views, no search indexes."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
    ).fetchall()
    return [
        OldTable(name, tuple(row[1] for row in connection.execute(f"PRAGMA table_info({quoted})")))
        for (name,) in names
        if (quoted := quote_name(name))
    ]


def role_of(table: OldTable) -> Role | None:
    """What a table holds; None where that cannot be told."""
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
    """One row for each id, or one for each time that it was looked at?"""
    held = {_OTHER_COLUMNS.get(column, column) for column in columns}
    known = [one for one in fields if one.name in held and one.name not in KEYS.values()]
    changing = sum(one.dynamic for one in known)
    if "snapshot_timestamp" in columns and 2 * changing > len(known) >= _LEAST_DYNAMIC:
        return dynamic
    return static if len(known) - changing >= _LEAST_STATIC else None


def quote_name(name: str) -> str:
    """A name of a table or column as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'
