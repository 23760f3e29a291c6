"""From SQLite to typed Polars frames, column by column through Arrow (ADBC), read-only.

ADBC's SQLite driver takes a column's type from its first rows, so a column that begins with many
nulls would get a wrong one. Every query therefore begins with one row of the right types, which is
removed from the result.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import adbc_driver_sqlite.dbapi as adbc
import polars as pl

from furnisync.errors import ConfigError, DatabaseUnusable
from furnisync.history.fields.definitions import LISTING_FIELDS, SHOP_FIELDS, Field
from furnisync.history.schema import open_history_reader, right_rows, stored_columns
from furnisync.sqlite.connection import BUSY_TIMEOUT_MS, choose_reading

Table = Literal["listings", "shops"]
KEYS: Final = {"listings": "listing_id", "shops": "shop_id"}
_FIELDS: Final = {"listings": LISTING_FIELDS, "shops": SHOP_FIELDS}
_FIRST_ROW: Final = {"INTEGER": "0", "REAL": "0.0", "TEXT": "''"}
_DTYPES: Final = {"INTEGER": pl.Int64(), "REAL": pl.Float64(), "TEXT": pl.String()}
_TEXT_LISTS: Final = {"tags", "materials", "style", "skus", "languages"}
_BATCH_ROWS: Final = "65536"


@dataclass(frozen=True)
class Source:
    """A history and the columns that a frame takes from it.

    Attributes:
        path: the database.
        table: listings or shops.
        static: SQL types of the static columns, without the key and the snapshot's time.
        dynamic: the same for the dynamic columns.
        right: a condition on both tables: no wrong clock wrote the row.
    """

    path: Path
    table: Table
    static: dict[str, str]
    dynamic: dict[str, str]
    right: str

    @property
    def key(self) -> str:
        """`listing_id` or `shop_id`."""
        return KEYS[self.table]


def open_source(home_or_path: Path | str, table: Table, columns: Iterable[str] | None) -> Source:
    """Find the history and the columns.

    Raises:
        ConfigError: an unknown table or column.
        DatabaseUnusable: there is no history, or it is damaged or another program's.
    """
    if table not in KEYS:
        raise ConfigError(f"There is no panel of {table!r}: choose listings or shops.")
    path = Path(home_or_path)
    if path.is_dir():
        path /= "etsy_data.db"
    connection = open_history_reader(path)
    try:
        static = stored_columns(connection, table)
        dynamic = stored_columns(connection, f"{table}_dynamic")
        right = right_rows(connection, table)
    finally:
        connection.close()
    for name in (KEYS[table], "snapshot_timestamp"):
        del static[name], dynamic[name]
    if columns is not None:
        wanted = set(columns) - {KEYS[table], "snapshot_timestamp"}
        if unknown := sorted(wanted - static.keys() - dynamic.keys()):
            raise ConfigError(
                f"{path} has no column {unknown[0]!r} of {table}: it has"
                f" {', '.join((*static, *dynamic))}."
            )
        static = {name: kind for name, kind in static.items() if name in wanted}
        dynamic = {name: kind for name, kind in dynamic.items() if name in wanted}
    return Source(path, table, static, dynamic, right)


def read_frame(
    path: Path, columns: dict[str, str], select: str, parameters: Sequence[Any] = ()
) -> pl.DataFrame:
    """Run a query whose result has these columns in this order, always with these types.

    Args:
        path: the database.
        columns: names and SQL types.
        select: a query with `?` marks.
        parameters: the values that are bound to them.

    Raises:
        DatabaseUnusable: it cannot be read, or was written on a read-only disk meanwhile.
    """
    lead = ", ".join(f'{_FIRST_ROW[kind]} AS "{name}"' for name, kind in columns.items())
    query = f"SELECT {lead} UNION ALL SELECT * FROM ({select})"
    try:
        reading = choose_reading(path)
        with (
            adbc.connect(reading.address, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            cursor.fetch_polars()
            cursor.execute("PRAGMA query_only = ON")
            cursor.fetch_polars()
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": _BATCH_ROWS})
            cursor.execute(query, list(parameters))
            frame = cursor.fetch_polars()
    except (adbc.Error, OSError) as error:
        raise DatabaseUnusable(
            f"{path} cannot be read ({error}): check it, or restore it."
        ) from error
    reading.check()
    typed = [pl.col(name).cast(_DTYPES[kind]) for name, kind in columns.items()]
    return frame.slice(1).select(typed)


def id_condition(key: str, ids: Sequence[int] | None) -> tuple[str, list[Any]]:
    """A condition on the key, and the values that are bound to it."""
    if ids is None:
        return "true", []
    return f"{key} IN (SELECT value FROM json_each(?))", [json.dumps([int(i) for i in ids])]


def finish(frame: pl.DataFrame, table: Table, *, lists: bool) -> pl.DataFrame:
    """Convert booleans to Boolean and, with `lists`, arrays of texts to lists of texts."""
    fields: dict[str, Field] = {field.name: field for field in _FIELDS[table]}
    changed = []
    for name in frame.columns:
        kind = fields[name].kind if name in fields else None
        if kind == "bool":
            changed.append(pl.col(name).cast(pl.Boolean))
        elif lists and name in _TEXT_LISTS:
            changed.append(pl.col(name).str.json_decode(pl.List(pl.String)))
    return frame.with_columns(changed)
