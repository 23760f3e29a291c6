"""A data sync two weeks after the first, over 600,000 known listings: memory, first call.

The history is filled by SQL in bulk. The shops that the sandbox really has were synced longest ago,
so they come first and the run has ordinary work all the time that it is watched.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.homes import DAY_S, SMALL_IMAGES, Home, forget_cached
from bench.rows import Row
from furnisync.catalog.schema import open_catalog
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.database import transaction

LISTINGS_A_SHOP = 20
FIRST_ID = 50_000_000_000
TITLE = "Solid oak dining table with live edge and steel legs, handmade to measure, number "
DESCRIPTION = "A table that lasts. " * 60


def run(*, quick: bool) -> list[Row]:
    """Fill, start, watch for a while, kill."""
    listings, real, seconds = (2_000, 300, 0.5) if quick else (600_000, 30_000, 30.0)
    world = {"shops": real // 20, "listings": real, **SMALL_IMAGES, "qpd": 10**9}
    with TemporaryDirectory() as folder, SandboxProcess(**world) as sandbox:
        home = Home(Path(folder), sandbox)
        _fill(home.path, sandbox, listings)
        for name in ("catalog.db", "etsy_data.db"):
            forget_cached(home.path / name)
        running = home.start("data", "--fast")
        running.watch(lambda: sandbox.asked()["total"])
        first = min(call["time"] for call in sandbox.asked(log=True)["log"])
        end = time.monotonic() + seconds
        running.watch(lambda: time.monotonic() >= end)
        calls = sandbox.asked()["total"]
        running.kill()
    return [
        Row(what=f"second data sync, {listings:,} listings known: start to first call",
            value=first - running.began, unit="s", at_most=2, how="by the sandbox's log"),
        Row(what="memory of that run at its peak", value=running.peak_mb, unit="MB", at_most=300,
            how=f"in {seconds:g} s and {calls:,} calls"),
    ]  # fmt: skip


def _fill(folder: Path, sandbox: SandboxProcess, listings: int) -> None:
    """A catalog and a history that know the sandbox's listings and, up to so many, others."""
    real = [
        (row["listing_id"], row["shop_id"])
        for row in sandbox.truth_listings()
        if row["findable"] and row["is_furniture"]
    ]
    made = [(FIRST_ID + n, FIRST_ID + n // LISTINGS_A_SHOP) for n in range(listings - len(real))]
    now = int(sandbox.now())
    with closing(open_catalog(folder / "catalog.db")) as catalog, transaction(catalog):
        _fill_catalog(catalog, real + made, now - 20 * DAY_S)
    history = open_history(folder / "etsy_data.db", Selection.of())
    with closing(history), transaction(history):
        _fill_history(history, real, now - 20 * DAY_S)
        _fill_history(history, made, now - 15 * DAY_S)


def _fill_catalog(catalog: sqlite3.Connection, known: list[tuple[int, int]], at: int) -> None:
    catalog.executemany(
        "INSERT INTO listings (listing_id, shop_id, state, first_seen, last_listed)"
        f" VALUES (?, ?, 'active', {at}, {at})",
        known,
    )
    catalog.execute("INSERT INTO shops SELECT DISTINCT shop_id, ?1, ?1, NULL FROM listings", (at,))


def _fill_history(history: sqlite3.Connection, known: list[tuple[int, int]], at: int) -> None:
    """One static and one dynamic row of each listing and shop, all synced and walked at a time."""
    history.executemany(
        "INSERT INTO listings (listing_id, snapshot_timestamp, shop_id, title, description)"
        " VALUES (?, ?, ?, ?, ?)",
        ((listing, at, shop, f"{TITLE}{listing}", DESCRIPTION) for listing, shop in known),
    )
    history.executemany(
        "INSERT INTO listings_dynamic (listing_id, snapshot_timestamp, state, views, quantity)"
        " VALUES (?, ?, 'active', 100, 1)",
        ((listing, at) for listing, _ in known),
    )
    sizes: dict[int, int] = {}
    for _, shop in known:
        sizes[shop] = sizes.get(shop, 0) + 1
    rows: list[tuple[Any, ...]] = [(shop, at, size) for shop, size in sizes.items()]
    for table in ("shops", "shops_dynamic"):
        history.executemany(
            f"INSERT INTO {table} (shop_id, snapshot_timestamp) VALUES (?, ?)",
            [row[:2] for row in rows],
        )
    history.executemany(
        "INSERT INTO sync_state (shop_id, status, first_sync, last_sync, last_static, last_asked,"
        " reviews_walked, furniture_listings, listings_found, signals, signals_walked)"
        " VALUES (?1, 'ok', ?2, ?2, ?2, ?2, ?2, ?3, ?3, '[1,5.0,9]', '[1,5.0,9]')",
        rows,
    )
