"""Reading the older tool's SQLite file: its tables by name, its columns by what the API calls them.

Opened read-only. Nothing is expected of a column but its name: values go through the same
converters as the API's answers, and what does not fit is kept as an oddity.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from furnisync.errors import DatabaseUnusable
from furnisync.history.fields import Field, as_id
from furnisync.history.schema import APPLICATION_ID
from furnisync.sqlite_connection import choose_reading

TABLES: Final = (
    "shops", "shops_dynamic", "listings", "listings_dynamic", "reviews", "sync_state",
    "image_status",
)  # fmt: skip
_OTHER_NAMES: Final = {"price_currency": "price_currency_code"}
_MONEY: Final = ("amount", "divisor", "currency_code")
_FETCH: Final = 2000

Row = dict[str, Any]
Complain = Callable[[str, str], None]
"""Where, and what is wrong with it."""


class OldDatabase:
    """An old `etsy_data.db`, or whatever holds some of its tables."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            DatabaseUnusable: it is no database, ours, or holds none of the tables.
        """
        self.path = path
        try:
            self._connection = _open(path)
            self.columns = {
                table: [row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")]
                for table in TABLES
            }
            owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise DatabaseUnusable(
                f"{path} cannot be read as a database ({error}): name the older tool's"
                " etsy_data.db."
            ) from error
        if owner == APPLICATION_ID:
            raise DatabaseUnusable(
                f"{path} is in furnisync's own form: put it back with `furnisync restore`,"
                " there is nothing to import."
            )
        if not any(self.columns.values()):
            raise DatabaseUnusable(
                f"{path} holds none of the tables {', '.join(TABLES)}: name the older tool's"
                " etsy_data.db."
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        return bool(self.columns[table])

    def count(self, table: str) -> int:
        """Rows, for a progress bar; 0 where they cannot be counted."""
        if not self.has(table):
            return 0
        try:
            return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        except sqlite3.DatabaseError:
            return 0

    def rows(self, table: str, order: tuple[str, ...], complain: Complain) -> Iterator[Row]:
        """Stream a table's rows as dicts; a damaged file ends the stream with a complaint."""
        names = self.columns[table]
        if not names:
            return
        columns = ", ".join(f'"{name}"' for name in names)
        known = [name for name in order if name.split()[0] in names]
        by = f"ORDER BY {', '.join(known)}" if known else ""
        read = 0
        try:
            cursor = self._connection.execute(f"SELECT {columns} FROM {table} {by}")
            while rows := cursor.fetchmany(_FETCH):
                for row in rows:
                    read += 1
                    yield dict(zip(names, row, strict=True))
        except sqlite3.DatabaseError as error:
            complain(f"{table}, after {read:,} rows", f"the file is damaged here: {error}")

    def shops_with_listings(self) -> set[int]:
        """Shops of which any listing was collected."""
        return {row[0] for row in self._pairs("SELECT DISTINCT shop_id, 0 FROM listings")}

    def newest_reviews(self) -> dict[int, int]:
        """The second of the newest review of each shop."""
        rows = self._pairs("SELECT shop_id, max(create_timestamp) FROM reviews GROUP BY shop_id")
        return {shop: time for shop, at in rows if shop and (time := as_time(at))}

    def _pairs(self, sql: str) -> list[tuple[Any, Any]]:
        try:
            return self._connection.execute(sql).fetchall()
        except sqlite3.DatabaseError:
            return []  # no such table or column; damage is told by whoever streams it

    def state(self) -> dict[str, Any]:
        """`sync_state`: keys with their decoded values; what is no JSON is left out."""
        found = {}
        for row in self.rows("sync_state", (), lambda *_: None):
            try:
                found[str(row["key"])] = json.loads(row["value"])
            except (KeyError, TypeError, ValueError):
                continue
        return found


def _open(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    try:
        connection = sqlite3.connect(address, uri=True)
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        # A file that was closed in order, in a folder where no -shm can be made beside it; one that
        # was not is refused, as its log would be left out.
        choose_reading(path)
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True)
        connection.execute("SELECT count(*) FROM sqlite_schema")
    connection.text_factory = _text
    return connection


def _text(value: bytes) -> str:
    """Bytes that are no UTF-8 become lone surrogates, which the converters keep as oddities."""
    return value.decode("utf-8", "surrogateescape")


class Naming:
    """Tells which fields of the API a table's columns hold, and reads them out of a row."""

    def __init__(self, columns: list[str], fields: tuple[Field, ...]) -> None:
        named = {_OTHER_NAMES.get(column, column): column for column in columns}
        self._plain = {one.name: named[one.name] for one in fields if one.name in named}
        self._json = {one.name for one in fields if one.kind == "json"}
        self._money = {
            one.name: {part: named.get(f"{one.name}_{part}") for part in _MONEY}
            for one in fields
            if one.kind == "money" and f"{one.name}_amount" in named
        }
        self.names = frozenset((*self._plain, *self._money))
        """Fields that the table has."""
        used = {*self._plain.values(), "id", "snapshot_timestamp"}
        used |= {name for parts in self._money.values() for name in parts.values() if name}
        self.unknown = tuple(column for column in columns if column not in used)
        """Columns that hold no field of the API."""

    def read(self, row: Mapping[str, Any]) -> Row:
        """The row's values that are not null, by field."""
        values: Row = {}
        for name, column in self._plain.items():
            if (value := row[column]) is not None:
                values[name] = _decoded(value) if name in self._json else value
        for name, parts in self._money.items():
            money = {part: row[column] for part, column in parts.items() if column}
            if any(value is not None for value in money.values()):
                values[name] = money
        return values


def _decoded(value: object) -> object:
    """An array that stands as JSON text; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, list | dict) else value


def as_time(value: object) -> int | None:
    """Unix seconds from a number, a number as text or an ISO date; None where it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                return int(datetime.fromisoformat(str(value)).timestamp())
            except ValueError:
                return None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = int(value) if 0 < value < 2**53 else None
    number = as_id(value)
    return number if number is not None and number > 0 else None
