"""`furnisync doctor --repair-clock`: repairs times that a clock ahead of Etsy's has left in a home.

The syncs do the same when they start. Nothing is repaired unless Etsy's answers show that the clock
is right now: for a clock that is behind, every right time is in the future.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from furnisync.catalog.clock_repair import repair_times, times_ahead
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import DAY_S, Clock
from furnisync.config import Environment, HomeFiles, Settings
from furnisync.errors import ConfigError, DatabaseUnusable, Terminal, Transient, UserError
from furnisync.etsy.access import open_client
from furnisync.history.clock_repair import repair_shop, shops_ahead
from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import MIGRATIONS, open_history, open_history_reader
from furnisync.lockfile import single_instance
from furnisync.ops.checks.doctor import Check
from furnisync.sqlite.database import transaction

REMEDY: Final = (
    "If the clock is right now, run `furnisync doctor --repair-clock`; the next sync does it too."
)


class Repaired(msgspec.Struct, frozen=True):
    """What was repaired.

    Attributes:
        shops: shops of the history that had a time ahead of now and are due now.
        rows: rows of the history that were marked, and that views and frames leave out.
        catalog: whether the catalog had any.
    """

    shops: int = 0
    rows: int = 0
    catalog: bool = False


def check_times(files: HomeFiles, settings: Settings, clock: Clock) -> Iterator[Check]:
    """Whether history and catalog hold times ahead of now."""
    for path, count in ((files.history, _count_shops), (files.catalog, _count_catalog)):
        if not path.exists():
            continue
        try:
            words = count(path, settings, int(clock.now()))
        except (DatabaseUnusable, sqlite3.DatabaseError):
            continue  # `check_databases` reports it
        name = f"times in {path.name}"
        if words:
            yield Check(name, "warn", words, REMEDY)
        else:
            yield Check(name, "ok", "none is ahead of now")


def _count_shops(path: Path, settings: Settings, now: int) -> str:
    with closing(open_history_reader(path)) as history:
        marked = history.execute("PRAGMA user_version").fetchone()[0] >= len(MIGRATIONS)
        wait_s = settings.data.sync_days * DAY_S
        number = len(shops_ahead(history, now, wait_s=wait_s, rows=marked))
    return f"{number:,} shops have times ahead of now: a wrong clock wrote them" if number else ""


def _count_catalog(path: Path, settings: Settings, now: int) -> str:
    with closing(read_catalog(path)) as catalog:
        found = times_ahead(catalog, now, int(settings.crawl.refresh_days * DAY_S))
    return "some are ahead of now: a wrong clock wrote them" if found else ""


def repair_home(
    environment: Environment, files: HomeFiles, settings: Settings, clock: Clock
) -> Repaired:
    """Mark and repair what has a time ahead of now; it can be repeated.

    Raises:
        AlreadyRunning: a sync runs; it repairs the times itself when it starts again.
        ConfigError: the clock is not known to be right; nothing was changed.
        UserError: the key is refused, a database cannot be used.
    """
    now = asyncio.run(_right_now(environment, files, settings, clock))
    shops = rows = 0
    catalog = False
    if files.history.exists():
        with single_instance(files.lock("data"), "data sync"):
            shops, rows = _repair_history(files, settings, now)
    if files.catalog.exists():
        with single_instance(files.lock("images"), "image sync"):
            catalog = _repair_catalog(files, settings, now)
    return Repaired(shops, rows, catalog)


async def _right_now(
    environment: Environment, files: HomeFiles, settings: Settings, clock: Clock
) -> int:
    """Unix time, once a ping has shown that it is right."""
    async with open_client("doctor", "slow", environment, files, settings, clock) as client:
        try:
            await client.clock.look()
        except UserError:
            raise
        except (Transient, Terminal) as error:
            raise ConfigError(
                f"Etsy does not answer ({error}), so it is not known whether this clock is right:"
                " run it again when `furnisync doctor` finds that the clock agrees."
            ) from error
        if not client.clock.is_known_right:
            state = client.clock.state or "not compared: Etsy's answer had no Date"
            raise ConfigError(
                f"The clock is {state}: let the computer set it by the network, then run it again."
            )
        return int(clock.now())


def _repair_history(files: HomeFiles, settings: Settings, now: int) -> tuple[int, int]:
    data = settings.data
    buyers = read_buyers(files.buyer_key, data.buyer_user_id)
    selection = Selection.of(data.shop_fields, data.listing_fields, data.review_fields, buyers)
    with closing(open_history(files.history, selection)) as history:
        shops = shops_ahead(history, now, wait_s=data.sync_days * DAY_S, rows=True)
        rows = 0
        for shop_id in shops:
            with transaction(history):
                rows += repair_shop(history, shop_id, now)
    return len(shops), rows


def _repair_catalog(files: HomeFiles, settings: Settings, now: int) -> bool:
    refresh_s = int(settings.crawl.refresh_days * DAY_S)
    with closing(open_catalog(files.catalog)) as catalog, transaction(catalog):
        found = times_ahead(catalog, now, refresh_s)
        if found:
            repair_times(catalog, now, refresh_s)
    return found
