"""What a person should know, read from a home's files; works whether syncs run or not.

| kind                   | when                                                                    |
| ---------------------- | ----------------------------------------------------------------------- |
| key-refused            | a sync ended because Etsy refused the key                               |
| clock-wrong            | our clock does not agree with Etsy's                                    |
| api-broken             | Etsy's API, or a kind of its calls, fails for all items                 |
| quota-cut              | Etsy lowered a limit within the last day                                |
| quota-spent            | the day's calls are spent by another program                            |
| cdn-broken             | the image server fails for all images, or asks for a pause              |
| images-away            | the image folder is missing: its disk is not mounted                    |
| images-unwritable      | the image folder cannot be written                                      |
| disk-low               | less than `min_free_mb` is free, or downloads pause as the disk is full |
| sync-stalled           | it runs without a heartbeat, or makes no progress though work waits     |
| sync-crashed           | it ended, and nobody had stopped it                                     |
| backup-failed          | the last backup failed                                                  |
| certificate-incomplete | no pass was complete for a week                                         |
"""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from furnisync.catalog import frontier, oversize
from furnisync.catalog.schema import read_catalog
from furnisync.circuit_breaker import Outage
from furnisync.clock import DAY_S, Clock
from furnisync.config import HomeFiles, Settings
from furnisync.errors import DatabaseUnusable
from furnisync.history.schema import open_history_reader
from furnisync.lockfile import holder
from furnisync.ops.backup.backup import read_last_backup
from furnisync.ops.service.service import JOBS, TITLES, Job
from furnisync.quota.clock_check import ClockState
from furnisync.quota.ledger import QuotaState, read_state
from furnisync.status.history import read_data_status
from furnisync.status.images import PauseKind, Status, read_status

SILENT_S: Final = 900.0
"""A sync writes a heartbeat each minute; after this it hangs."""
STALLED_S: Final = 2 * 3600.0
"""Without progress for this long, though work waits and calls are left, it is stalled."""
INCOMPLETE_S: Final = 7 * DAY_S
OURS: Final = 0.9
"""Where our calls are less than this part of the day's, another program has spent them."""

AlertKind = Literal[
    "key-refused",
    "clock-wrong",
    "api-broken",
    "quota-cut",
    "quota-spent",
    "cdn-broken",
    "images-away",
    "images-unwritable",
    "disk-low",
    "sync-stalled",
    "sync-crashed",
    "backup-failed",
    "certificate-incomplete",
]


PAUSES: Final[dict[PauseKind | None, AlertKind]] = {
    "away": "images-away",
    "unwritable": "images-unwritable",
    "room": "disk-low",
    "server": "cdn-broken",
}


class Alert(msgspec.Struct, frozen=True):
    """Something that is wrong.

    Attributes:
        subject: the job that it is about; empty if it is about the home.
        at: when it happened (unix seconds), for an event; None while a state lasts.
    """

    kind: AlertKind
    message: str
    subject: str = ""
    at: float | None = None

    @property
    def key(self) -> str:
        """By which it is sent at most once a day."""
        return f"{self.kind}/{self.subject}" if self.subject else self.kind


class Heartbeat(msgspec.Struct):
    """The last heartbeat of a sync (unix seconds), and the error that ended it, if any."""

    at: float
    pid: int
    error: str | None = None
    key_refused: bool = False


class Standing(msgspec.Struct):
    """What a sync has done, as text, and since when it has not changed (unix seconds)."""

    picture: str
    since: float


class SyncMemory(msgspec.Struct):
    """What is remembered of the syncs between two checks."""

    beats: dict[str, Heartbeat] = {}
    standing: dict[str, Standing] = {}


def read_alerts(
    files: HomeFiles, settings: Settings, clock: Clock, life: SyncMemory
) -> list[Alert]:
    """All that is wrong now; updates `life`."""
    now = clock.now()
    images = _read_images(files, clock)
    quota = read_state(files.quota, None, clock)
    found = [*_about_quota(quota, now), *_about_disk(files, settings, images)]
    for job in JOBS:
        runs = holder(files.lock(job)) is not None
        work = None
        if runs:
            found += _about_outages(() if quota is None else quota.outages_of(job), job, now)
            work = _work_of(job, files, settings, clock, images)
        found += _about_sync(job, life, runs=runs, work=work, quota=quota, now=now)
    backup = read_last_backup(files)
    if backup is not None and not backup.ok:
        found.append(Alert("backup-failed", backup.why or f"No backup to {backup.target}."))
    return [*found, *_about_certificate(files, now)]


def _read_images(files: HomeFiles, clock: Clock) -> Status | None:
    try:
        return read_status(files, clock)
    except DatabaseUnusable:
        return None


def _about_quota(quota: QuotaState | None, now: float) -> Iterator[Alert]:
    if quota is None:
        return
    if (state := quota.clock) is not None:
        yield Alert("clock-wrong", _clock_message(state))
    for event in quota.events:
        if event.kind == "limit-fell" and abs(now - event.at) < DAY_S:
            yield Alert("quota-cut", f"{event.message}.", at=event.at)
            break
    spent = quota.waiting_until is not None and quota.remaining_today is not None
    if spent and quota.limit_per_day and (quota.remaining_today or 0) <= quota.reserve:
        ours, all_calls = quota.used_last_day, quota.limit_per_day - quota.reserve
        if ours < OURS * all_calls:
            yield Alert(
                "quota-spent",
                f"The day's calls are spent, but only {ours:,} of {quota.limit_per_day:,} by"
                " furnisync: another program uses the key.",
            )


def _about_outages(outages: Sequence[Outage], job: Job, now: float) -> Iterator[Alert]:
    for one in outages:
        minutes = (now - one.since) / 60
        yield Alert(
            "api-broken",
            f"{one.upstream} has been broken for {minutes:,.0f} minutes: {one.reason}. Work on it"
            " pauses and is retried automatically; nothing is lost.",
            job,
        )


def _clock_message(state: ClockState) -> str:
    since = datetime.fromtimestamp(state.since, UTC).strftime("%Y-%m-%d %H:%M")
    effect = "No calls are made and no history is written. " if state.wrong else ""
    return (
        f"The clock is {state} since {since} UTC. {effect}Let the computer set it by the network;"
        " `furnisync doctor` compares it again."
    )


def _about_disk(files: HomeFiles, settings: Settings, images: Status | None) -> Iterator[Alert]:
    if images is not None and images.image_folder_away is not None:
        yield Alert("images-away", f"Downloads pause: {images.image_folder_away}.")
        return
    folder = files.images if files.images.exists() else files.home
    free_mb = shutil.disk_usage(folder).free / 1e6
    least_mb = settings.images.min_free_mb
    activity = images.activity if images is not None else None
    if activity is not None and activity.downloads_paused_kind in PAUSES:
        kind = PAUSES[activity.downloads_paused_kind]
        yield Alert(kind, f"Downloads pause: {activity.downloads_paused}.")
    elif free_mb < least_mb:
        yield Alert(
            "disk-low",
            f"Only {free_mb:,.0f} MB are free in {folder}; under {least_mb:,.0f} MB downloads"
            " pause. Make room or move the home to a larger disk.",
        )


def _work_of(
    job: Job, files: HomeFiles, settings: Settings, clock: Clock, images: Status | None
) -> tuple[bool, str] | None:
    """Whether work waits that could be done now, and what was done, as text; None if unknown."""
    if job == "images":
        return None if images is None else _image_work(images)
    try:
        data = read_data_status(files, settings.data, clock)
        with closing(open_history_reader(files.history)) as history:
            row = history.execute(
                "SELECT total(last_asked), total(reviews_walked), total(walk_offset),"
                " (SELECT total(open_ids) FROM work_shops) FROM sync_state"
            ).fetchone()
    except (DatabaseUnusable, sqlite3.DatabaseError):
        return None
    return data.waiting > data.failing, repr(tuple(row))


def _image_work(images: Status) -> tuple[bool, str]:
    current = images.current_pass
    reading = current is not None and current.finished_at is None and current.pages_left > 0
    paused = images.activity is not None and images.activity.downloads_paused is not None
    waits = reading or images.batches_waiting > 0 or (images.images_due > 0 and not paused)
    pages = current.pages_read if current is not None else 0
    return waits, repr((images.listings, images.images, pages, images.batches_waiting))


def _about_sync(
    job: Job,
    life: SyncMemory,
    *,
    runs: bool,
    work: tuple[bool, str] | None,
    quota: QuotaState | None,
    now: float,
) -> Iterator[Alert]:
    beat, title = life.beats.get(job), TITLES[job].capitalize()
    if not runs:
        life.standing.pop(job, None)
        if beat is not None:
            yield _ended(job, beat, title)
        return
    waiting = quota is not None and (
        quota.waiting_until is not None or (quota.clock is not None and quota.clock.wrong)
    )
    standing = life.standing.get(job)
    if standing is not None and standing.since > now:
        standing = None  # written by a clock that was ahead
    if work is None or not work[0] or waiting or standing is None or standing.picture != work[1]:
        life.standing[job] = Standing("" if work is None else work[1], now)
    elif now - standing.since > STALLED_S:
        hours = (now - standing.since) / 3600
        yield Alert(
            "sync-stalled",
            f"{title} has made no progress for {hours:.0f} hours though work waits: look at"
            " `furnisync status` and the log; if Etsy answers, restart it.",
            job,
        )
        return
    if beat is not None and now - beat.at > SILENT_S:
        minutes = (now - beat.at) / 60
        yield Alert(
            "sync-stalled",
            f"{title} (pid {beat.pid}) has not responded for {minutes:.0f} minutes: end it with"
            f" `kill {beat.pid}` and start it again.",
            job,
        )


def _ended(job: Job, beat: Heartbeat, title: str) -> Alert:
    if beat.key_refused:
        return Alert("key-refused", f"{title} ended: {beat.error}", job)
    if beat.error is not None:
        return Alert("sync-crashed", f"{title} ended: {beat.error}", job)
    return Alert(
        "sync-crashed",
        f"{title} (pid {beat.pid}) ended without an error: look at its log and start it again; it"
        " continues where it was.",
        job,
    )


def _about_certificate(files: HomeFiles, now: float) -> Iterator[Alert]:
    try:
        with closing(read_catalog(files.catalog)) as catalog:
            newest, complete = frontier.last_pass(catalog), frontier.last_complete_pass(catalog)
            if newest is None:
                return
            since = catalog.execute(
                "SELECT min(started_at) FROM passes WHERE pass_id > ?",
                (0 if complete is None else complete.pass_id,),
            ).fetchone()[0]
            unseen = 0 if since is not None else oversize.out_of_reach(catalog, newest.pass_id)
    except (DatabaseUnusable, sqlite3.DatabaseError):
        return
    if since is not None and now - since > INCOMPLETE_S:
        days = (now - since) / DAY_S
        yield Alert(
            "certificate-incomplete",
            f"No pass over furniture was complete for {days:.0f} days: `furnisync coverage` shows"
            " what could not be read and why.",
        )
    elif unseen and newest.finished_at is not None and now - newest.finished_at > INCOMPLETE_S:
        yield Alert(
            "certificate-incomplete",
            f"{unseen:,} listings were out of reach of every query for a week: `furnisync coverage`"
            " shows where.",
        )
