"""Forward fill: the values of shops and listings as of one time, or as of many.

| function | a row for                              | with                                  |
| -------- | -------------------------------------- | ------------------------------------- |
| `asof`   | each id first seen at or before `at`   | its newest rows at or before `at`     |
| `panel`  | each id and date from its first row on | its newest rows at or before the date |

Whole rows are carried forward. A null in a row means that Etsy sent null (or nothing) at that time:
it is a value, and no older value replaces it. A listing that is gone keeps its last row, whose
state is `gone` and whose other dynamic values are null. Rows that a wrong clock wrote are left out.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from furnisync.analysis.reading import Source, Table, finish, id_condition, open_source, read_frame

Time = int | float | datetime
"""Unix seconds, or a datetime; one without a time zone is taken as UTC."""

_IDS_A_PART: Final = 25_000
"""Ids that are read and filled at a time; it bounds the memory beside the result."""
_LARGEST_ID: Final = 2**63 - 1
_ROW: Final = "static_row"


def asof(
    home_or_path: Path | str,
    table: Table,
    at: Time,
    ids: Sequence[int] | None = None,
    columns: Iterable[str] | None = None,
    *,
    lists: bool = False,
) -> pl.DataFrame:
    """Values as of a time, one row for each id that had been seen by then.

    Args:
        home_or_path: the home, or the history itself.
        table: `listings` or `shops`.
        at: the time.
        ids: only these; None takes all.
        columns: only these, besides the id and the times of the two snapshots; None takes all.
        lists: arrays of texts (tags, materials) as lists instead of JSON.

    Raises:
        ConfigError: an unknown table or column.
        DatabaseUnusable: there is no history, or it is damaged or another program's.
    """
    return panel(home_or_path, table, [at], ids, columns, lists=lists).drop("date")


def panel(
    home_or_path: Path | str,
    table: Table,
    dates: Iterable[Time],
    ids: Sequence[int] | None = None,
    columns: Iterable[str] | None = None,
    *,
    lists: bool = False,
) -> pl.DataFrame:
    """A grid of ids and dates, each row with the values as of its date.

    It is ordered by id and date. Besides the selected columns it has `date` (unix seconds),
    `snapshot_timestamp` and `static_timestamp`: when the values were seen. An id without a static
    row has null there. Arguments and errors are those of `asof`.
    """
    source = open_source(home_or_path, table, columns)
    grid = pl.Series("date", sorted({_seconds(date) for date in dates}), pl.Int64)
    parts = list(_parts(source, ids))
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
        frames = list(threads.map(lambda part: _fill(source, grid, part, ids), parts))
    return finish(pl.concat(frames, rechunk=False), source.table, lists=lists)


def _seconds(time: Time) -> int:
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return int(time)


def _parts(source: Source, ids: Sequence[int] | None) -> Iterator[tuple[int, int]]:
    """Ranges of ids, both ends included, with about `_IDS_A_PART` ids each."""
    condition, bound = id_condition(source.key, ids)
    known = read_frame(
        source.path,
        {source.key: "INTEGER"},
        f"SELECT DISTINCT {source.key} FROM {source.table} WHERE {condition} AND {source.right}",
        bound,
    )[source.key].sort()
    begin = -_LARGEST_ID
    for cut in known.gather_every(_IDS_A_PART)[1:]:
        yield begin, cut - 1
        begin = cut
    yield begin, _LARGEST_ID


def _fill(
    source: Source, grid: pl.Series, part: tuple[int, int], ids: Sequence[int] | None
) -> pl.DataFrame:
    """The panel of a range of ids."""
    dynamic = _read(source, grid, part, ids, dynamic=True)
    static = _read(source, grid, part, ids, dynamic=False)
    static = static.with_columns(_from=_first_date(static, grid))
    filled = _join_static(_spread(dynamic, source.key, grid), static, source.key, len(grid))
    at = filled["date"]
    order = [source.key, "date", "snapshot_timestamp", "static_timestamp"]
    return filled.with_columns(date=grid.gather(at)).select(*order, *source.static, *source.dynamic)


def _read(
    source: Source,
    grid: pl.Series,
    part: tuple[int, int],
    ids: Sequence[int] | None,
    *,
    dynamic: bool,
) -> pl.DataFrame:
    """Rows of a range up to the last date, by id and time; of one date only the last of each id."""
    key = source.key
    columns, suffix = (source.dynamic, "_dynamic") if dynamic else (source.static, "")
    latest = -_LARGEST_ID if grid.is_empty() else int(grid[-1])
    newest = len(grid) == 1
    condition, bound = id_condition(key, ids)
    time = "max(snapshot_timestamp)" if newest else "snapshot_timestamp"
    names = ", ".join([key, time, *(f'"{name}"' for name in columns)])
    frame = read_frame(
        source.path,
        {key: "INTEGER", "snapshot_timestamp": "INTEGER", **columns},
        f"SELECT {names} FROM {source.table}{suffix}"
        f" WHERE {key} BETWEEN ? AND ? AND snapshot_timestamp <= ?"
        f" AND {source.right} AND {condition}" + (f" GROUP BY {key}" if newest else ""),
        [*part, latest, *bound],
    )
    return frame if _is_in_order(frame, key) else frame.sort(key, "snapshot_timestamp")


def _is_in_order(frame: pl.DataFrame, key: str) -> bool:
    """Whether rows are by id and time, as the tables' keys give them; SQL does not promise it."""
    step, wait = pl.col(key).diff(), pl.col("snapshot_timestamp").diff()
    in_order = (step > 0) | ((step == 0) & (wait > 0))
    return bool(frame.select(in_order.fill_null(value=True).all()).item())


def _first_date(rows: pl.DataFrame, grid: pl.Series) -> pl.Series:
    """The position in the grid of the first date at or after a row's own time."""
    return grid.search_sorted(rows["snapshot_timestamp"], side="left").cast(pl.Int64)


def _spread(rows: pl.DataFrame, key: str, grid: pl.Series) -> pl.DataFrame:
    """Repeat each row for the dates from its own time to the next one of its id.

    As rows are in order this needs no join. `date` is the position in the grid.
    """
    rows = rows.with_columns(_from=_first_date(rows, grid))
    same = pl.col(key) == pl.col(key).shift(-1)
    until = pl.when(same).then(pl.col("_from").shift(-1)).otherwise(len(grid))
    return (
        rows.with_columns(until.alias("_until"))
        .filter(pl.col("_from") < pl.col("_until"))
        .with_columns(pl.int_ranges("_from", "_until").alias("date"))
        .drop("_from", "_until")
        .explode("date")
    )


def _join_static(filled: pl.DataFrame, static: pl.DataFrame, key: str, dates: int) -> pl.DataFrame:
    """Add to each row the newest static row of its id at or before its date.

    Id and date become one number in the order of the rows, so that a single merge finds it.
    """
    ranks = filled.select(pl.col(key), rank=pl.col(key).rle_id().cast(pl.Int64)).unique(key)
    begins = (
        static.select(pl.col(key), "_from")
        .with_row_index(_ROW)
        .join(ranks, on=key, maintain_order="left")
        .select(_ROW, owner=key, at=pl.col("rank") * (dates + 1) + pl.col("_from"))
        .sort("at", _ROW)
    )
    places = filled.select(
        pl.col(key), at=pl.col(key).rle_id().cast(pl.Int64) * (dates + 1) + pl.col("date")
    ).join_asof(begins, on="at", strategy="backward")
    rows = places.select(pl.when(pl.col("owner") == pl.col(key)).then(pl.col(_ROW))).to_series()
    values = static.drop(key, "_from").rename({"snapshot_timestamp": "static_timestamp"})
    return filled.hstack(values.select(pl.all().gather(rows)))
