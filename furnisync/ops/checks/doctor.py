"""`furnisync doctor`: checks what a sync of many months needs, and names the remedy.

Each function checks one thing: ok, warn or fail, with a remedy. Nothing is changed; one ping is
sent, through the ledger like any call.
"""

import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

import msgspec
import pycurl

from furnisync.catalog import schema as catalog_schema
from furnisync.clock import WEEK_S, Clock
from furnisync.config import Environment, HomeFiles, Settings, exposed_secrets
from furnisync.crawl.plan_file import load_plan
from furnisync.errors import (
    ConfigError,
    DatabaseUnusable,
    LocksUnsupported,
    MissingExtra,
    UserError,
)
from furnisync.extras import require_extra
from furnisync.history import schema as history_schema
from furnisync.lockfile import holder
from furnisync.ops.service.service import TITLES, Job, Supervisor
from furnisync.quota import store
from furnisync.quota.ledger import QuotaState, read_state
from furnisync.sqlite.database import open_reader
from furnisync.status.images import read_status

Level = Literal["ok", "warn", "fail"]

OLDEST_SQLITE: Final = (3, 38, 0)
OLDEST_CURL: Final = (7, 86, 0)
"""The first version that understands networks in `no_proxy`."""
IMAGE_BYTES: Final = 60_000
"""An image of 570 pixels, until some have been measured."""
SILENT_S: Final = 600
CUT_LATELY_S: Final = WEEK_S
LEFT_PERCENT: Final = 5


class Check(msgspec.Struct, frozen=True):
    """The result of one check; `remedy` says what to do if it is not ok."""

    name: str
    verdict: Level
    message: str
    remedy: str = ""


def check_versions() -> Iterator[Check]:
    """Python, SQLite, libcurl."""
    yield Check("Python", "ok", ".".join(map(str, sys.version_info[:3])))
    found = sqlite3.sqlite_version_info
    yield Check(
        "SQLite",
        "ok" if found >= OLDEST_SQLITE else "fail",
        sqlite3.sqlite_version,
        ""
        if found >= OLDEST_SQLITE
        else f"Use a Python that brings SQLite {'.'.join(map(str, OLDEST_SQLITE))} or newer.",
    )
    yield _check_curl(pycurl.version_info())


def _check_curl(info: Sequence[object]) -> Check:
    number, protocols = str(info[1]), info[8]
    version = tuple(int(part) for part in number.split(".")[:3] if part.isdecimal())
    named = protocols if isinstance(protocols, tuple) else ()
    if "https" not in named:
        return Check("libcurl", "fail", f"{number} without https", "Install pycurl with TLS.")
    if version < OLDEST_CURL:
        return Check("libcurl", "warn", f"{number} is old", "Update the system's libcurl.")
    return Check("libcurl", "ok", f"{number}, {info[5]}")


def check_extras(settings: Settings) -> Iterator[Check]:
    """Extras that the settings need; nothing if they are installed."""
    if settings.notices.urls:
        try:
            require_extra("notices")
        except MissingExtra as error:
            yield Check("notices", "warn", "no notices can be sent", str(error))


def check_plan(files: HomeFiles) -> Check:
    """The crawl plan can be read."""
    try:
        plan = load_plan(files.plan, None)
    except ConfigError as error:
        return Check(
            "crawl plan",
            "fail",
            str(error),
            "Or delete the file: the next sync writes the default.",
        )
    return Check("crawl plan", "ok", ", ".join(one.name for one in plan.taxonomies))


def check_permissions(
    environment: Environment, files: HomeFiles, settings: Settings
) -> Iterator[Check]:
    """Nobody else can read the key, passwords of notices, or the databases."""
    exposed = exposed_secrets(environment.home)
    if settings.notices.urls and _mode(files.settings) & 0o077:
        exposed.append(files.settings)
    for path in exposed:
        yield Check("secrets", "warn", f"{path} can be read by others", f"Run `chmod 600 {path}`.")
    if not exposed:
        yield Check("secrets", "ok", "no key or password that others can read")
    open_files = [path for path in _private(files) if path.exists() and _mode(path) & 0o077]
    for path in open_files:
        yield Check(
            "databases",
            "warn",
            f"{path} can be read by others",
            f"Run `chmod 600 {path}`; where its file system keeps no permissions (exFAT), mount it"
            " with umask=077.",
        )
    if not open_files:
        yield Check("databases", "ok", "readable by their owner only")
    if not os.access(files.home, os.W_OK):
        return  # `check_home` reports that; on a read-only file system no owner helps
    foreign = [path for path in _private(files) if path.exists() and not os.access(path, os.W_OK)]
    for path in foreign:
        yield Check(
            "databases",
            "fail",
            f"{path} cannot be written by this user",
            f"Give it to the user that runs the syncs: `chown {os.getuid()} {path}`.",
        )


def _private(files: HomeFiles) -> Iterator[Path]:
    for path in (files.catalog, files.history, files.quota):
        yield from (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    yield files.buyer_key


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_image_folder(files: HomeFiles, clock: Clock) -> Iterator[Check]:
    """Whether the image folder is mounted and this home's; nothing without a catalog."""
    try:
        why = read_status(files, clock).image_folder_away
    except (DatabaseUnusable, sqlite3.DatabaseError):
        return
    if why is None:
        yield Check("image folder", "ok", f"{files.images} is this home's")
    else:
        yield Check("image folder", "fail", why, "Downloads pause until it is back.")


def check_disk(files: HomeFiles, settings: Settings, clock: Clock) -> Check:
    """Room for the images that are due, by the size of those that are here."""
    folder = files.images if files.images.exists() else files.home
    free = shutil.disk_usage(folder).free
    least = settings.images.min_free_mb * 1e6
    pending, each = _to_download(files, clock)
    needed = pending * each
    words = f"{free / 1e9:,.1f} GB free in {folder}"
    if pending:
        words += f"; {pending:,} images that are due take about {needed / 1e9:,.1f} GB"
    if free < least:
        remedy = f"Make room: below {least / 1e9:,.1f} GB downloads pause (`min_free_mb`)."
        return Check("disk", "fail", words, remedy)
    if free - needed < least:
        remedy = "Not all of them fit: make room, or set a smaller `size` under [images]."
        return Check("disk", "warn", words, remedy)
    return Check("disk", "ok", words)


def _to_download(files: HomeFiles, clock: Clock) -> tuple[int, float]:
    """How many images are due, and the bytes of one."""
    try:
        status = read_status(files, clock)
    except (UserError, sqlite3.DatabaseError):
        return 0, IMAGE_BYTES
    done = status.images.get("done", 0)
    return status.images_due, status.image_bytes / done if done else IMAGE_BYTES


def check_databases(files: HomeFiles) -> Iterator[Check]:
    """Each database opens, is ours, and has a version that this program reads."""
    for path, mark, known in (
        (files.catalog, catalog_schema.APPLICATION_ID, len(catalog_schema.MIGRATIONS)),
        (files.history, history_schema.APPLICATION_ID, len(history_schema.MIGRATIONS)),
        (files.quota, store.APPLICATION_ID, len(store.MIGRATIONS)),
    ):
        yield _check_database(path, mark, known)


def _check_database(path: Path, mark: int, known: int) -> Check:
    if not path.exists():
        return Check(path.name, "ok", "does not exist yet: the first sync creates it")
    try:
        with closing(open_reader(path, mark, sys.maxsize)) as found:
            version: int = found.execute("PRAGMA user_version").fetchone()[0]
    except DatabaseUnusable as error:
        remedy = "Restore it with `furnisync restore`, or move it away to start with a new one."
        return Check(path.name, "fail", str(error), remedy)
    if version > known:
        message = f"has version {version}, this program knows {known}"
        return Check(path.name, "fail", message, "Update furnisync.")
    if version < known:
        return Check(path.name, "ok", f"version {version}: the next sync migrates it to {known}")
    return Check(path.name, "ok", f"opens, version {version}")


def check_locks(files: HomeFiles, clock: Clock) -> Iterator[Check]:
    """Which syncs run; what a killed run left is harmless."""
    for job, title in TITLES.items():
        path = files.lock(job)
        try:
            pid = holder(path)
        except LocksUnsupported:
            yield Check(title, "fail", "cannot run here: file locks do not work (see above)")
            continue
        if pid is not None:
            yield _check_running(job, title, pid, files, clock)
        elif path.exists() and path.read_text("utf-8", "replace").strip():
            yield Check(title, "ok", "not running; the last run was killed, the next one continues")
        else:
            yield Check(title, "ok", "not running")


def _check_running(job: Job, title: str, pid: int, files: HomeFiles, clock: Clock) -> Check:
    if job == "images":
        try:
            activity = read_status(files, clock).activity
        except (DatabaseUnusable, sqlite3.DatabaseError):
            activity = None
        if activity is not None and clock.now() - activity.at > SILENT_S:
            minutes = (clock.now() - activity.at) / 60
            return Check(
                title,
                "fail",
                f"pid {pid} has not responded for {minutes:,.0f} minutes",
                f"It hangs: end it with `kill {pid}` and start it again; nothing is lost.",
            )
    return Check(title, "ok", f"runs (pid {pid})")


def check_quota(files: HomeFiles, environment: Environment, clock: Clock) -> Check:
    """The limits, whether they fell in the last week, what is left."""
    key = environment.key
    quota = read_state(files.quota, None if key is None else key.fingerprint(), clock)
    if quota is None or quota.limit_per_day is None:
        return Check("quota", "ok", "not known yet: the first answer shows it")
    return _check_limits(quota, clock.now())


def _check_limits(quota: QuotaState, now: float) -> Check:
    left = "unknown" if quota.remaining_today is None else f"{quota.remaining_today:,}"
    words = (
        f"{quota.limit_per_second or 0:g} calls a second, {quota.limit_per_day:,} a day,"
        f" {left} left, {quota.used_last_day:,} by us in 24 hours"
    )
    if quota.used_by_others:
        remedy = (
            f"Something else spent {quota.used_by_others:,} calls of this key in the last day: find"
            " it (another home, another program), as Etsy requires one key for each application."
        )
        return Check("quota", "warn", words, remedy)
    lately = [one for one in quota.events if abs(now - one.at) < CUT_LATELY_S]
    fell = [one for one in lately if one.kind == "limit-fell"]
    if fell:
        remedy = f"{fell[0].message}: ask developer@etsy.com if you did not expect it."
        return Check("quota", "warn", words, remedy)
    if quota.waiting_until is not None:
        remedy = f"Nothing to do: {quota.waiting_why}, the syncs wait until there are calls again."
        return Check("quota", "warn", words, remedy)
    if (quota.remaining_today or 0) * 100 < (quota.limit_per_day or 0) * LEFT_PERCENT:
        return Check("quota", "warn", words, "The syncs wait when they are spent.")
    return Check("quota", "ok", words)


def check_services(supervisor: Supervisor | None) -> Iterator[Check]:
    """Whether the system starts the syncs."""
    if supervisor is None:
        yield Check("services", "warn", "neither launchd nor systemd", "Start syncs with nohup.")
        return
    for job in TITLES:
        state = supervisor.state(job)
        name = f"service {job}"
        if not state.installed:
            remedy = "To start it automatically: `furnisync service install`."
            yield Check(name, "ok", "not installed", remedy)
        elif not state.running:
            remedy = f"See `furnisync service logs {job}`, then `furnisync service start {job}`."
            yield Check(name, "warn", f"installed, not running ({state.last_exit})", remedy)
        else:
            yield Check(name, "ok", f"runs (pid {state.pid}) on {state.home}")
