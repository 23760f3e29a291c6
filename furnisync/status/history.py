"""Status of the history, read from its database; works while nothing runs."""

import json
import sqlite3
from contextlib import closing

import msgspec

from furnisync.circuit_breaker import Outage
from furnisync.clock import DAY_S, Clock
from furnisync.config import DataSettings, HomeFiles
from furnisync.history.fields.schema_drift import read_drift
from furnisync.history.schedule import measure_lag
from furnisync.history.schema import open_history_reader
from furnisync.lockfile import holder
from furnisync.quota.report import Event, QuotaState, read_state
from furnisync.status.eta import seconds_for_calls
from furnisync.status.images import Status, Trouble

TROUBLES_SHOWN = 20


class FirstSync(msgspec.Struct, frozen=True):
    """What it takes to sync the shops that were never synced.

    Attributes:
        calls: at least, for their lists, listings and a page of reviews each.
        seconds: at the quota of now, if data sync has its share; None where it is not known.
        until: when that will be over (unix seconds), if it runs; None where it is not known.
    """

    calls: int
    seconds: float | None
    until: float | None


class DataStatus(msgspec.Struct, frozen=True):
    """Status of the history.

    Attributes:
        pid: of the data sync that runs; None where none runs.
        synced: shops with at least one snapshot that are not gone.
        waiting: shops that are due, with those never synced.
        under_way: shops whose sync is in progress.
        ahead: shops whose last sync has a time ahead of now, which a wrong clock wrote.
        behind_days: by how many days the most overdue shop is late.
        calls_per_day: the calls that keeping the cadence needs, estimated.
        quota_per_day: the calls that the key allows; None where unknown.
        keeps_up: whether the key allows what keeping the cadence needs; None where unknown.
        outages: what is broken for the sync that runs.
        first_sync: what the shops that were never synced take; None where there are none.
        history: the database file.
    """

    home: str
    pid: int | None
    shops: int
    synced: int
    waiting: int
    under_way: int
    gone: int
    failing: int
    never_synced: int
    reviews_never_walked: int
    reviews_due: int
    ahead: int
    behind_days: float
    calls_per_day: float
    quota_per_day: int | None
    troubles: tuple[Trouble, ...]
    events: tuple[Event, ...]
    quota: QuotaState | None
    outages: tuple[Outage, ...] = ()
    first_sync: FirstSync | None = None
    keeps_up: bool | None = None
    history: str = ""


def read_data_status(files: HomeFiles, settings: DataSettings, clock: Clock) -> DataStatus:
    """Read the status.

    Raises:
        DatabaseUnusable: there is no history yet, or it is not ours.
    """
    with closing(open_history_reader(files.history)) as connection:
        return read_data_status_from(connection, files, settings, clock)


def read_data_status_from(
    connection: sqlite3.Connection, files: HomeFiles, settings: DataSettings, clock: Clock
) -> DataStatus:
    """Read the status over a connection that the caller keeps."""
    lag = measure_lag(connection, clock.now(), settings)
    quota = read_state(files.quota, None, clock)
    pid = holder(files.lock("data"))
    quota_per_day = None if quota is None else quota.limit_per_day
    return DataStatus(
        home=str(files.home),
        pid=pid,
        shops=lag.shops,
        synced=lag.shops - lag.never_synced - lag.gone,
        waiting=lag.never_synced + lag.due,
        under_way=lag.under_way,
        gone=lag.gone,
        failing=lag.failing,
        never_synced=lag.never_synced,
        reviews_never_walked=lag.reviews_never_walked,
        reviews_due=lag.reviews_due,
        ahead=lag.ahead,
        behind_days=round(lag.most_overdue_s / DAY_S, 1),
        calls_per_day=round(lag.calls_per_day),
        quota_per_day=quota_per_day,
        troubles=_read_troubles(connection),
        events=tuple(Event(at, "drift", text) for at, text in read_drift(connection)),
        quota=quota,
        outages=quota.outages_of("data") if pid and quota else (),
        first_sync=_first_sync(lag.new_calls, quota, clock.now()) if lag.never_synced else None,
        keeps_up=None if quota_per_day is None else lag.calls_per_day <= quota_per_day,
        history=str(files.history),
    )


def _first_sync(calls: int, quota: QuotaState | None, now: float) -> FirstSync:
    seconds = seconds_for_calls(calls, quota)
    return FirstSync(calls, seconds, None if seconds is None else now + seconds)


def _read_troubles(connection: sqlite3.Connection) -> tuple[Trouble, ...]:
    listings = ""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'set_aside'").fetchone():
        listings = (  # a history that was not migrated yet has none
            " UNION ALL SELECT 'listing', reason, count(*) FROM set_aside GROUP BY reason"
        )
    rows = connection.execute(
        "SELECT 'shop', reason, count(*) AS number FROM sync_state WHERE reason IS NOT NULL"
        " GROUP BY reason UNION ALL SELECT 'reviews', reviews_reason, count(*) FROM sync_state"
        " WHERE reviews_reason IS NOT NULL GROUP BY reviews_reason"
        f"{listings} ORDER BY number DESC LIMIT ?",
        (TROUBLES_SHOWN,),
    )
    return tuple(Trouble(*row) for row in rows)


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows by table; it reads an index of each, about a second for 30 million rows."""
    tables = ("shops", "shops_dynamic", "listings", "listings_dynamic", "reviews")
    return {
        table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
        for table in tables
    }


def to_json(images: Status, data: DataStatus | None) -> str:
    """Both as JSON; the status of the history under `data`."""
    fields = {**msgspec.to_builtins(images), "data": msgspec.to_builtins(data)}
    return json.dumps(fields, indent=2, ensure_ascii=False)
