"""Reading the older tool's SQLite file: its tables by role, its columns by what the API calls them.

Opened read-only. Nothing is expected of a column but its name: values go through the same
converters as the API's answers, and what does not fit is kept as an oddity.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from furnisync.errors import DatabaseUnusable
from furnisync.history.fields import Field, as_id
from furnisync.history.schema import APPLICATION_ID
from furnisync.importer.tables import ROLES, OldTable, Role, find_tables, quote_name, role_of

_OTHER_NAMES: Final = {"price_currency": "price_currency_code"}
_MONEY: Final = ("amount", "divisor", "currency_code")
_FETCH: Final = 2000

Row = dict[str, Any]
Complain = Callable[[Role, str, str, int], None]
"""In which tables, where, what is wrong with it, and how many rows are lost by that."""
DAMAGED: Final = "the file is damaged here"


class OldDatabase:
    """An old `etsy_data.db`, or whatever holds some of its tables.

    Attributes:
        tables: by role, all that hold it.
        columns: by role, those of all its tables.
        others: tables of which it cannot be told what they hold.
    """

    def __init__(self, path: Path, scratch: Path) -> None:
        """Open a file; `scratch` is a folder of ours for what SQLite writes beside a database.

        Raises:
            DatabaseUnusable: it is no database, ours, or holds none of the tables.
            OSError: the scratch folder has no room.
        """
        self.path = path
        self.tables: dict[Role, list[OldTable]] = {role: [] for role in ROLES}
        self.others: list[OldTable] = []
        try:
            self._connection = open_unchanged(path, scratch)
            self._connection.text_factory = _text
            for table in find_tables(self._connection):
                role = role_of(table)
                (self.others if role is None else self.tables[role]).append(table)
            owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise DatabaseUnusable(
                f"{path} cannot be read as a database ({error}): name the older tool's"
                " etsy_data.db."
            ) from error
        self.columns = {
            role: list(dict.fromkeys(name for table in tables for name in table.columns))
            for role, tables in self.tables.items()
        }
        if owner == APPLICATION_ID:
            raise DatabaseUnusable(
                f"{path} is in furnisync's own form: put it back with `furnisync restore`,"
                " there is nothing to import."
            )
        if not any(self.columns.values()):
            raise DatabaseUnusable(
                f"{path} holds none of the tables {', '.join(ROLES)}: name the older tool's"
                " etsy_data.db."
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def has(self, role: Role) -> bool:
        """Whether there is such a table."""
        return bool(self.tables[role])

    def name(self, role: Role) -> str:
        """The names that its tables bear."""
        return "+".join(table.name for table in self.tables[role])

    def count(self, role: Role) -> int:
        """Rows, for a progress bar; 0 where they cannot be counted."""
        return sum(self.count_table(table) for table in self.tables[role])

    def count_table(self, table: OldTable) -> int:
        """Rows of one table; 0 where they cannot be counted."""
        try:
            rows = self._connection.execute(f"SELECT count(*) FROM {quote_name(table.name)}")
            return int(rows.fetchone()[0])
        except sqlite3.DatabaseError:
            return 0

    def rows(self, role: Role, order: tuple[str, ...], complain: Complain) -> Iterator[Row]:
        """Stream the rows of a role as dicts; a damaged file ends the stream with a complaint."""
        names = self.columns[role]
        if not names:
            return
        known = [name for name in order if name.split()[0] in names]
        by = f"ORDER BY {', '.join(known)}" if known else ""
        read = 0
        try:
            cursor = self._connection.execute(f"{self._select(role)} {by}")
            while rows := cursor.fetchmany(_FETCH):
                for row in rows:
                    read += 1
                    yield dict(zip(names, row, strict=True))
        except sqlite3.DatabaseError as error:
            complain(role, f"{self.name(role)}, after {read:,} rows", f"{DAMAGED}: {error}", 0)

    def _select(self, role: Role) -> str:
        """All tables of a role as one; what one of them lacks is null."""
        selects = []
        for table in self.tables[role]:
            has = set(table.columns)
            columns = ", ".join(
                (quote_name(name) if name in has else "NULL") + f" AS {quote_name(name)}"
                for name in self.columns[role]
            )
            selects.append(f"SELECT {columns} FROM {quote_name(table.name)}")
        return " UNION ALL ".join(selects)

    def shops_with_listings(self) -> set[int]:
        """Shops of which any listing was collected."""
        return {row[0] for row in self._pairs("DISTINCT shop_id, 0", "listings")}

    def newest_reviews(self) -> dict[int, int]:
        """The second of the newest review of each shop."""
        rows = self._pairs("shop_id, max(create_timestamp)", "reviews", "GROUP BY shop_id")
        return {shop: time for shop, at in rows if shop and (time := as_time(at))}

    def _pairs(self, what: str, role: Role, rest: str = "") -> list[tuple[Any, Any]]:
        if not self.has(role):
            return []
        try:
            return self._connection.execute(
                f"SELECT {what} FROM ({self._select(role)}) {rest}"
            ).fetchall()
        except sqlite3.DatabaseError:
            return []  # no such column; damage is told by whoever streams it

    def state(self) -> dict[str, Any]:
        """`sync_state`: keys with their decoded values; what is no JSON is left out."""
        found = {}
        for row in self.rows("sync_state", (), lambda *_: None):
            try:
                found[str(row["key"])] = json.loads(row["value"])
            except (KeyError, TypeError, ValueError):
                continue
        return found


def open_unchanged(path: Path, scratch: Path) -> sqlite3.Connection:
    """Open a database without writing into its folder, which may be read-only.

    SQLite writes an index beside a database with a log, and undoes a transaction that was broken
    off. Both happen in the scratch folder: to the very file (a second name of it, opened
    read-only) beside a copy of its log, or to a copy of the file where it is to be undone.

    Raises:
        sqlite3.DatabaseError: it is no database.
        OSError: the scratch folder has no room.
    """
    path = path.resolve()  # its log lies beside the file itself, not beside a link to it
    view = scratch / path.name
    log, journal = (path.with_name(path.name + ending) for ending in ("-wal", "-journal"))
    if journal.exists() and journal.stat().st_size:
        shutil.copyfile(path, view)
        shutil.copyfile(journal, view.with_name(journal.name))
        return _connect(view, "mode=rw")
    if log.exists() and log.stat().st_size:
        try:
            view.hardlink_to(path)
        except OSError:  # another disk, or another owner
            shutil.copyfile(path, view)
        shutil.copyfile(log, view.with_name(log.name))
        return _connect(view, "mode=ro")
    return _connect(path, "mode=ro&immutable=1")


def _connect(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{how}", uri=True)
    connection.execute("SELECT count(*) FROM sqlite_schema")
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
