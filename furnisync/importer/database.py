"""Reads the older tool's SQLite file, table by table of a role, without changing it.

No column has to exist and no value has a type: values go through the same converters as the
API's answers, and what does not fit is kept as an oddity.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote as quote_url

from furnisync.errors import DatabaseUnusable
from furnisync.history.fields.values import as_id
from furnisync.history.schema import APPLICATION_ID
from furnisync.importer.report import DAMAGED_SOURCES, Reason, Report
from furnisync.importer.tables import (
    ROLES,
    Role,
    Row,
    SourceTable,
    find_tables,
    quote,
    role_of,
    select_all,
)

_FETCH: Final = 2000


class SourceDatabase:
    """An older `etsy_data.db`, or a database that holds some of its tables.

    Attributes:
        path: the file.
        written_at: when the file was last written, unix seconds.
        tables: by role, all that hold it.
        columns: by role, those of all its tables.
        unknown: tables of no known role.
    """

    def __init__(self, path: Path, scratch: Path, report: Report) -> None:
        """Open a file.

        Args:
            path: the file.
            scratch: a folder of ours for what SQLite writes beside a database.
            report: takes rows that cannot be used, and damage.

        Raises:
            DatabaseUnusable: it is not a database, is ours, or holds none of the tables.
            OSError: the scratch folder has no room.
        """
        self.path = path
        self.written_at = int(path.stat().st_mtime)
        self._report = report
        try:
            self._connection = open_unchanged(path, scratch)
            tables = [(role_of(table), table) for table in find_tables(self._connection)]
            owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise DatabaseUnusable(
                f"{path} cannot be read as a database ({error}): name the older tool's"
                " etsy_data.db."
            ) from error
        self.unknown = [table for role, table in tables if role is None]
        self.tables = {role: [table for of, table in tables if of == role] for role in ROLES}
        self.columns = {
            role: list(dict.fromkeys(name for table in tables for name in table.columns))
            for role, tables in self.tables.items()
        }
        if owner == APPLICATION_ID:
            raise DatabaseUnusable(
                f"{path} is furnisync's own history: restore it with `furnisync restore`,"
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

    def source(self, role: Role) -> str:
        """The tables of a role, as the report names them."""
        names = "+".join(table.name for table in self.tables[role])
        return f"{self.path.name}, {names}"

    def skip(
        self, role: Role, entry: object, reason: Reason, detail: str = "", lost: int = 1
    ) -> None:
        """Report `lost` rows that cannot be used."""
        self._report.leave_out("broken rows", (self.source(role), entry), reason, detail, lost)

    def count(self, *tables: SourceTable) -> int:
        """Rows of some tables, for a progress bar; 0 if they cannot be counted."""
        count = "SELECT count(*) FROM {}"
        try:
            return sum(
                self._connection.execute(count.format(quote(table.name))).fetchone()[0]
                for table in tables
            )
        except sqlite3.DatabaseError:
            return 0  # damaged: `rows` reports it

    def rows(self, role: Role, *order: str) -> Iterator[Row]:
        """Stream the rows of a role as dicts, and count them in the report.

        Damage in the file ends the stream and is reported.
        """
        names = self.columns[role]
        if not names:
            return
        known = [name for name in order if name.split()[0] in names]
        by = f"ORDER BY {', '.join(known)}" if known else ""
        read = 0
        try:
            cursor = self._connection.execute(f"{select_all(self.tables[role], names)} {by}")
            while rows := cursor.fetchmany(_FETCH):
                read += len(rows)
                self._report.read(self.source(role), len(rows))
                for row in rows:
                    yield dict(zip(names, row, strict=True))
        except sqlite3.DatabaseError as error:
            where = (self.source(role), f"after {read:,} rows")
            self._report.leave_out(DAMAGED_SOURCES, where, Reason.DAMAGED, str(error))

    def shops_with_listings(self) -> set[int]:
        """Shops of which any listing was collected."""
        return {row[0] for row in self._pairs("DISTINCT shop_id, 0", "listings")}

    def newest_reviews(self) -> dict[int, int]:
        """The time of the newest review of each shop, unix seconds."""
        rows = self._pairs("shop_id, max(create_timestamp)", "reviews", "GROUP BY shop_id")
        return {shop: time for shop, at in rows if shop and (time := as_time(at))}

    def _pairs(self, what: str, role: Role, rest: str = "") -> list[tuple[Any, Any]]:
        tables = select_all(self.tables[role], self.columns[role])
        try:
            sql = f"SELECT {what} FROM ({tables}) {rest}"
            return self._connection.execute(sql).fetchall() if tables else []
        except sqlite3.DatabaseError:
            return []  # no such column, or damaged: `rows` reports it

    def state(self) -> dict[str, Any]:
        """`sync_state`: keys with their decoded values; what is not JSON is left out."""
        found = {}
        for row in self.rows("sync_state"):
            try:
                found[str(row["key"])] = json.loads(row["value"])
            except (KeyError, TypeError, ValueError):
                continue
        return found


def open_unchanged(path: Path, scratch: Path) -> sqlite3.Connection:
    """Open a database without writing into its folder, which may be read-only.

    SQLite writes an index beside a database with a log, and rolls back a transaction that was
    interrupted. Both happen in the scratch folder: to the same file (a second name of it, opened
    read-only) beside a copy of its log, or to a copy of the file if it has to be rolled back.

    Raises:
        sqlite3.DatabaseError: it is not a database.
        OSError: the scratch folder has no room.
    """
    path = path.resolve()  # its log is beside the file itself, not beside a link to it
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


def _connect(path: Path, options: str) -> sqlite3.Connection:
    url = f"file:{quote_url(str(path.resolve()))}?{options}"
    connection = sqlite3.connect(url, uri=True)
    connection.text_factory = _text
    connection.execute("SELECT count(*) FROM sqlite_schema")
    return connection


def _text(value: bytes) -> str:
    """Bytes that are not UTF-8 become lone surrogates, which the converters keep as oddities."""
    return value.decode("utf-8", "surrogateescape")


def as_time(value: object) -> int | None:
    """Unix seconds from a number, a number as text or an ISO date; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                return int(datetime.fromisoformat(str(value)).timestamp())
            except ValueError:
                return None
    if isinstance(value, float):
        value = int(value) if 0 < value < 2**53 else None
    number = None if isinstance(value, bool) else as_id(value)
    return number if number is not None and number > 0 else None
