"""A panel of 100,000 listings x 26 snapshots out of SQLite, against DuckDB and Polars on Parquet.

The rows lie in a history as data sync leaves it (26 dynamic rows a listing, two static ones) and,
for the peers, word for word in two Parquet files, sorted by id and time. Each side makes the same
frame in memory: a row for each listing and date with the newest dynamic and the newest static row
at or before that date. The peers get their best form that we found: DuckDB two ASOF JOINs, Polars
two lazy `join_asof` by id. Medians of `--rounds`, the sides taking turns; the results are compared
once.

    python bench/panel.py [--listings 100000] [--snapshots 26] [--rounds 5] [--json]
"""

import argparse
import json
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from bench.rows import Row
from furnisync.analysis import panel
from furnisync.analysis.reading import read_frame
from furnisync.history.fields.selection import Selection
from furnisync.history.rows import insert_rows
from furnisync.history.schema import open_history, open_history_reader, stored_columns
from furnisync.sqlite.database import transaction

T0 = 1_780_000_000
DAY = 86_400
DYNAMIC = (
    "state", "ending_timestamp", "quantity", "num_favorers",
    "price_amount", "price_divisor", "price_currency_code", "views",
)  # fmt: skip
STATIC = ("title", "tags", "taxonomy_id", "creation_timestamp", "item_weight", "is_customizable")
RATIO = "times of the best peer"
COLUMNS = (*DYNAMIC, *STATIC, "shop_id")


def dynamic_rows(listings: int, snapshot: int) -> Iterator[tuple[Any, ...]]:
    """A sync of all listings, spread over three days, as the cadence would."""
    chance = random.Random(snapshot)
    for number in range(listings):
        at = T0 + snapshot * 14 * DAY + chance.randrange(3 * DAY)
        views = chance.randrange(100_000)
        price = chance.randrange(900, 900_000)
        yield (
            1_000_000_000 + 7 * number, at, "active", at + 90 * DAY, 3, views // 20, price, 100,
            "USD", views,
        )  # fmt: skip


def static_rows(listings: int, snapshot: int) -> Iterator[tuple[Any, ...]]:
    """The static rows of a sync; the third column is the shop."""
    for number in range(listings):
        yield (
            1_000_000_000 + 7 * number, T0 + snapshot * 14 * DAY, number % 9000,
            f"Oak table with live edge, rustic farmhouse dining number {number}",
            '["oak","table","rustic"]', 12371, T0, 12.5 + number % 10, 1,
        )  # fmt: skip


def make_history(path: Path, listings: int, snapshots: int) -> None:
    """Fill a history."""
    connection = open_history(path, Selection.of())
    for snapshot in range(snapshots):
        with transaction(connection):
            rows = list(dynamic_rows(listings, snapshot))
            insert_rows(connection, "listings_dynamic", DYNAMIC, rows)
            if snapshot % 13 == 0:
                insert_rows(connection, "listings", STATIC, list(static_rows(listings, snapshot)))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def write_parquet(path: Path, folder: Path) -> None:
    """The same rows for the peers."""
    for table, columns in (("listings_dynamic", DYNAMIC), ("listings", ("shop_id", *STATIC))):
        connection = open_history_reader(path)
        types = stored_columns(connection, table)
        connection.close()
        names = ("listing_id", "snapshot_timestamp", *columns)
        frame = read_frame(
            path,
            {name: types[name] for name in names},
            f"SELECT {', '.join(names)} FROM {table} ORDER BY listing_id, snapshot_timestamp",
        )
        frame.write_parquet(folder / f"{table}.parquet")


def with_duckdb(folder: Path, dates: list[int]) -> pl.DataFrame:
    """Two ASOF JOINs."""
    with duckdb.connect() as connection:
        table = connection.sql(
            f"""WITH d AS (SELECT * FROM '{folder}/listings_dynamic.parquet'),
            s AS (SELECT listing_id, snapshot_timestamp AS static_timestamp,
                * EXCLUDE (listing_id, snapshot_timestamp) FROM '{folder}/listings.parquet'),
            g AS (SELECT listing_id, date FROM (SELECT DISTINCT listing_id FROM d)
                CROSS JOIN (SELECT unnest($1::BIGINT[]) AS date))
            SELECT g.date, d.*, s.* EXCLUDE (listing_id) FROM g
            ASOF JOIN d ON g.listing_id = d.listing_id AND g.date >= d.snapshot_timestamp
            ASOF LEFT JOIN s ON g.listing_id = s.listing_id AND g.date >= s.static_timestamp""",
            params=[dates],
        ).to_arrow_table()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def with_polars(folder: Path, dates: list[int]) -> pl.DataFrame:
    """Two lazy as-of joins."""
    dynamic = pl.scan_parquet(folder / "listings_dynamic.parquet")
    static = pl.scan_parquet(folder / "listings.parquet")
    static = static.rename({"snapshot_timestamp": "static_timestamp"})
    grid = pl.LazyFrame({"date": pl.Series(dates, dtype=pl.Int64)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            dynamic.select(pl.col("listing_id").unique(maintain_order=True))
            .join(grid, how="cross", maintain_order="left_right")
            .join_asof(
                dynamic, left_on="date", right_on="snapshot_timestamp", by="listing_id",
                coalesce=False,
            )
            .join_asof(
                static, left_on="date", right_on="static_timestamp", by="listing_id",
                coalesce=False,
            )
            .filter(pl.col("snapshot_timestamp").is_not_null())
            .collect()
        )  # fmt: skip


def with_furnisync(path: Path, dates: list[int]) -> pl.DataFrame:
    """Our own."""
    return panel(path, "listings", dates, columns=COLUMNS)


def check(frames: list[pl.DataFrame]) -> None:
    """All sides have made the same frame."""
    names = ["listing_id", "date", "snapshot_timestamp", "static_timestamp", *COLUMNS]
    plain = [
        frame.select(pl.col(names)).with_columns(pl.col("is_customizable").cast(pl.Int64))
        .sort("listing_id", "date")
        for frame in frames
    ]  # fmt: skip
    assert all(frame.equals(plain[0]) for frame in plain), [frame.shape for frame in plain]


def measure(listings: int, snapshots: int, rounds: int) -> dict[str, float]:
    """Median seconds of all sides, and the ratio."""
    dates = [T0 + (14 * number + 4) * DAY for number in range(snapshots)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_history(folder / "etsy_data.db", listings, snapshots)
        write_parquet(folder / "etsy_data.db", folder)
        sides: dict[str, Callable[[], pl.DataFrame]] = {
            "furnisync, SQLite": partial(with_furnisync, folder / "etsy_data.db", dates),
            "DuckDB, Parquet": partial(with_duckdb, folder, dates),
            "Polars, Parquet": partial(with_polars, folder, dates),
        }
        check([side() for side in sides.values()])
        seconds: dict[str, list[float]] = {label: [] for label in sides}
        for _ in range(rounds):
            for label, side in sides.items():
                began = time.perf_counter()
                side()
                seconds[label].append(time.perf_counter() - began)
    medians = {label: statistics.median(found) for label, found in seconds.items()}
    best = min(value for label, value in medians.items() if "Parquet" in label)
    medians[RATIO] = medians["furnisync, SQLite"] / best
    return medians


def run(*, quick: bool) -> list[Row]:
    """The ratio for the table of `python -m bench`."""
    listings, snapshots, rounds = (500, 4, 1) if quick else (100_000, 26, 5)
    medians = measure(listings, snapshots, rounds)
    how = "; ".join(f"{label} {value:.2f} s" for label, value in medians.items() if label != RATIO)
    return [
        Row(what=f"panel of {listings:,} listings x {snapshots} dates, by the best peer's time",
            value=medians[RATIO], at_most=2, how=how)
    ]  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listings", type=int, default=100_000)
    parser.add_argument("--snapshots", type=int, default=26)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    medians = measure(options.listings, options.snapshots, options.rounds)
    if options.json:
        print(json.dumps(medians, indent=1))
        return
    for label, value in medians.items():
        print(f"{label:24} {value:8.2f}{'' if label == RATIO else ' s'}")


if __name__ == "__main__":
    main()
