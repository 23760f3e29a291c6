"""Status of image sync, read from the databases of a home; works while nothing runs.

The terminal's bars, `furnisync status` and the log line all show this, so they agree.
"""

import shutil
import sqlite3
from contextlib import closing
from typing import Literal

import msgspec

from furnisync.catalog import frontier, image_queue, oversize
from furnisync.catalog.image_folder import why_away
from furnisync.catalog.schema import get_meta, read_catalog
from furnisync.circuit_breaker import Outage
from furnisync.clock import Clock
from furnisync.config import SIZES, HomeFiles
from furnisync.limits import ETSY_PAGING
from furnisync.lockfile import holder
from furnisync.quota.report import Event, QuotaState, read_state
from furnisync.status.eta import seconds_for_calls
from furnisync.status.forecast import DiskForecast, forecast_disk

ACTIVITY = "activity"
"""Key of `meta` under which a running image sync writes its `Activity`."""
TROUBLES_SHOWN = 20
EVENTS_SHOWN = 10
IMAGES_SAMPLED = 2000

PauseKind = Literal["away", "unwritable", "room", "server"]
"""Why downloads pause: the image folder is missing, cannot be written, its disk is full, or the
image server is broken or asks for a pause."""


class Activity(msgspec.Struct, frozen=True):
    """What the running image sync does; times in unix seconds."""

    mode: str
    doing: str
    started_at: float
    at: float
    downloads_paused: str | None = None
    downloads_paused_kind: PauseKind | None = None
    images_per_second: float = 0.0
    outage: Outage | None = None


_activity = msgspec.json.Decoder(Activity)


class PassStatus(msgspec.Struct, frozen=True):
    """Progress of the newest pass.

    Attributes:
        pages_left: estimated, also for price intervals that were not asked for yet.
        listings_counted: by Etsy, in the intervals that were asked for.
        listings_expected: in all intervals, if the others are as large.
    """

    started_at: int
    finished_at: int | None
    complete: bool
    intervals: int
    intervals_done: int
    intervals_failed: int
    pages_read: int
    pages_left: int
    listings_counted: int
    listings_expected: int
    unreached: int


class Trouble(msgspec.Struct, frozen=True):
    """A kind of failure: what failed, why, how often."""

    what: str
    reason: str
    number: int


class Status(msgspec.Struct, frozen=True):
    """Status of image sync.

    Attributes:
        image_folder: where the image files are.
        metadata: the metadata file.
        image_folder_away: why the image folder is missing, with the remedy; None where it is not.
        outages: what is broken for the sync that runs.
        disk: what the images that are missing will take; None while no listing is known.
    """

    home: str
    pid: int | None
    activity: Activity | None
    listings: dict[str, int]
    shops: int
    images: dict[str, int]
    image_bytes: int
    image_folder_away: str | None
    batches_waiting: int
    images_due: int
    current_pass: PassStatus | None
    troubles: tuple[Trouble, ...]
    events: tuple[Event, ...]
    quota: QuotaState | None
    calls_left: int
    seconds_left: float | None
    outages: tuple[Outage, ...] = ()
    disk: DiskForecast | None = None
    image_folder: str = ""
    metadata: str = ""


def read_status(files: HomeFiles, clock: Clock) -> Status:
    """Read the status.

    Raises:
        DatabaseUnusable: there is no catalog yet, or it is not ours.
    """
    with closing(read_catalog(files.catalog)) as connection:
        return read_status_from(connection, files, clock)


def read_status_from(connection: sqlite3.Connection, files: HomeFiles, clock: Clock) -> Status:
    """Read the status over a connection that the caller keeps."""
    now = clock.now()
    counters: dict[str, int] = dict(
        connection.execute("SELECT name, value FROM counters").fetchall()
    )
    images = _with_prefix(counters, "images.")
    image_bytes = images.pop("bytes", 0)
    noted = get_meta(connection, ACTIVITY)
    activity = None if noted is None else _activity.decode(noted)
    waiting = connection.execute(
        "SELECT count(*) FROM listings WHERE batch_due IS NOT NULL AND batch_due <= ?", (now,)
    ).fetchone()[0]
    current = _read_pass(connection)
    quota = read_state(files.quota, None, clock)
    calls_left = -(-waiting // ETSY_PAGING.page_size)
    if current is not None and current.finished_at is None:
        unknown = max(0, current.listings_expected - counters.get("listings.active", 0))
        calls_left += current.pages_left - (-unknown // ETSY_PAGING.page_size)
    pid = holder(files.lock("images"))
    return Status(
        home=str(files.home),
        pid=pid,
        activity=activity,
        listings=_with_prefix(counters, "listings."),
        shops=counters.get("shops", 0),
        images=images,
        image_bytes=image_bytes,
        image_folder_away=why_away(connection, files),
        batches_waiting=waiting,
        images_due=images.get("pending", 0),
        current_pass=current,
        troubles=_read_troubles(connection),
        events=_read_events(connection, quota),
        quota=quota,
        calls_left=calls_left,
        seconds_left=_seconds_left(calls_left, images, activity, quota) if pid else None,
        outages=_outages(quota, activity) if pid else (),
        disk=_forecast(connection, files, counters, current, waiting),
        image_folder=str(files.images),
        metadata=str(files.metadata),
    )


def _forecast(
    connection: sqlite3.Connection,
    files: HomeFiles,
    counters: dict[str, int],
    current: PassStatus | None,
    waiting: int,
) -> DiskForecast | None:
    listings = counters.get("listings.active", 0)
    counted = max(listings, 0 if current is None else current.listings_expected)
    which, _, size = (get_meta(connection, "wanted") or "").partition(" ")
    if not counted or size not in SIZES:
        return None
    folder = files.images if files.images.exists() else files.home
    if not waiting and counted == listings:  # then every image is known
        images = sum(_with_prefix(counters, "images.").values()) - counters.get("images.bytes", 0)
        sample = listings, images - counters.get("images.unwanted", 0)
    else:
        sample = (listings, listings) if which == "primary" else _sample_images(connection)
    return forecast_disk(
        counted,
        size,
        shutil.disk_usage(folder).free,
        sample=sample,
        here=(counters.get("images.done", 0), counters.get("images.bytes", 0)),
    )


def _sample_images(connection: sqlite3.Connection) -> tuple[int, int]:
    """A bounded sample of the oldest and newest listings with images: how many, with how many."""
    end = "SELECT * FROM (SELECT listing_id, image_id FROM images ORDER BY listing_id {} LIMIT ?1)"
    row = connection.execute(
        "SELECT count(DISTINCT listing_id), count(*) FROM"
        f" ({end.format('ASC')} UNION {end.format('DESC')})",
        (IMAGES_SAMPLED,),
    ).fetchone()
    return row[0], row[1]


def _outages(quota: QuotaState | None, activity: Activity | None) -> tuple[Outage, ...]:
    found = () if quota is None else quota.outages_of("images")
    cdn = None if activity is None else activity.outage
    return found if cdn is None else (*found, cdn)


def _with_prefix(counters: dict[str, int], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): value
        for name, value in counters.items()
        if name.startswith(prefix) and value
    }


def _read_pass(connection: sqlite3.Connection) -> PassStatus | None:
    newest = frontier.last_pass(connection)
    if newest is None:
        return None
    states = dict(
        connection.execute(
            "SELECT state, count(*) FROM intervals WHERE pass_id = ? GROUP BY state",
            (newest.pass_id,),
        ).fetchall()
    )
    pages, useful = connection.execute(
        "SELECT count(*), coalesce(sum(state <> 'split'), 0) FROM intervals"
        " JOIN pages USING (interval_id) WHERE pass_id = ?",
        (newest.pass_id,),
    ).fetchone()
    # The lengths of the parts of a split interval are not known yet; that of the interval is.
    counted, expected, lists, asked = connection.execute(
        "SELECT coalesce(sum(count), 0), coalesce(sum(max(1, (count + ?1 - 1) / ?1)), 0),"
        " count(*), count(count) FROM intervals WHERE pass_id = ?2 AND parent IS NULL",
        (ETSY_PAGING.stride, newest.pass_id),
    ).fetchone()
    scale = lists / asked if asked else 1.0
    waiting = states.get("pending", 0) + states.get("failed", 0)
    left = max(waiting, round(expected * scale) - useful) if waiting else 0
    return PassStatus(
        started_at=newest.started_at,
        finished_at=newest.finished_at,
        complete=bool(newest.complete),
        intervals=sum(states.values()) - states.get("split", 0),
        intervals_done=states.get("done", 0),
        intervals_failed=states.get("failed", 0),
        pages_read=pages,
        pages_left=left if newest.finished_at is None else 0,
        listings_counted=counted,
        listings_expected=round(counted * scale),
        unreached=oversize.out_of_reach(connection, newest.pass_id),
    )


def _read_troubles(connection: sqlite3.Connection) -> tuple[Trouble, ...]:
    """Failures by reason: images, price intervals, shops, listings whose batch failed."""
    troubles = [
        Trouble(f"image {status}", reason.words if reason else "?", number)
        for status, reason, number in image_queue.count_troubles(connection, TROUBLES_SHOWN)
    ]
    newest = "(SELECT max(pass_id) FROM passes)"
    rows = connection.execute(
        "SELECT 'price interval' AS what, coalesce(reason, '?') AS reason, count(*) AS number"
        f" FROM intervals WHERE pass_id = {newest} AND state = 'failed' GROUP BY reason"
        " UNION ALL SELECT 'price interval', found || ' of ' || count || ' listings came', 1"
        f"  FROM intervals WHERE pass_id = {newest} AND state = 'done' AND part = 'whole'"
        "  AND found < count"
        " UNION ALL SELECT 'shop', reason, count(*) FROM shops"
        "  WHERE reason IS NOT NULL GROUP BY reason"
        " UNION ALL SELECT 'listing', reason, count(*) FROM listings"
        "  WHERE reason IS NOT NULL AND batch_due IS NOT NULL GROUP BY reason"
        " ORDER BY number DESC LIMIT ?",
        (TROUBLES_SHOWN,),
    )
    troubles += [Trouble(*row) for row in rows]
    return tuple(sorted(troubles, key=lambda one: -one.number)[:TROUBLES_SHOWN])


def _read_events(connection: sqlite3.Connection, quota: QuotaState | None) -> tuple[Event, ...]:
    """The newest events of catalog and ledger."""
    rows = connection.execute(
        "SELECT at, kind, message FROM events ORDER BY at DESC LIMIT ?", (EVENTS_SHOWN,)
    )
    events = [Event(*row) for row in rows]
    events += quota.events if quota else ()
    return tuple(sorted(events, key=lambda event: -event.at)[:EVENTS_SHOWN])


def _seconds_left(
    calls: int, images: dict[str, int], activity: Activity | None, quota: QuotaState | None
) -> float | None:
    """Seconds until the current work is done at the current rates; None where not known."""
    needed = [seconds_for_calls(calls, quota)]
    if pending := images.get("pending", 0):
        rate = 0.0 if activity is None else activity.images_per_second
        needed.append(pending / rate if rate else None)
    return None if None in needed else max(one for one in needed if one is not None)
