"""`furnisync backup`: both databases as of one moment, while the syncs go on.

    databases ──snapshot──> copies ──checked, packed──> staging folder ──> target ──> old ones go

What is kept: every backup of the last 24 hours, the newest of each of the last days, the newest of
each of the last weeks. Only backups of the same home are ever counted or removed.
"""

import logging
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import msgspec

from furnisync import durable
from furnisync.clock import DAY_S, Clock
from furnisync.config import HomeFiles
from furnisync.errors import AlreadyRunning, FurnisyncError
from furnisync.identity import home_is_here
from furnisync.lockfile import single_instance
from furnisync.ops.backup.archive import (
    MANIFEST,
    BackupFailed,
    Manifest,
    Tell,
    backup_name,
    make_copies,
    named_at,
    sources_of,
)
from furnisync.ops.backup.targets import Target, open_target
from furnisync.quota.ledger import read_state

log = logging.getLogger("furnisync")

FOLDER: Final = "backups"
"""Below the home, where no other place is named."""


class Keep(msgspec.Struct, frozen=True):
    """For how many days and weeks a backup is kept, today and this week included."""

    days: int = 7
    weeks: int = 8


class Made(msgspec.Struct, frozen=True):
    """A backup that was made, and what was removed after it."""

    address: str
    manifest: Manifest
    removed: tuple[str, ...]


class LastBackup(msgspec.Struct, frozen=True):
    """How the last backup of a home ended; `why` where it failed."""

    at: int
    target: str
    ok: bool
    why: str | None = None
    last_good: int | None = None


def make_backup(files: HomeFiles, address: str, keep: Keep, clock: Clock, tell: Tell) -> Made:
    """Make a backup, then remove those that the rule does not keep.

    How it ended is noted in the home, for `status` and notices.

    Args:
        files: of the home.
        address: a folder, or a url.
        keep: the rule.
        clock: tells its name.
        tell: takes how far it is.

    Raises:
        BackupFailed: it could not be made; what was there before is there still.
        AlreadyRunning: another backup is under way.
        ConfigError: the address cannot be used.
    """
    at = int(clock.now())
    try:
        made = _make(files, address, keep, clock, tell)
    except AlreadyRunning:
        raise
    except FurnisyncError as error:
        if home_is_here(files.home):  # nothing is noted in the mount point of one that is away
            _note(files, LastBackup(at, address, ok=False, why=str(error)))
        raise
    except (OSError, sqlite3.DatabaseError) as error:
        failed = BackupFailed(
            f"The backup to {address} failed ({error}): free some disk there or name another place,"
            " then run it again; earlier backups are untouched."
        )
        _note(files, LastBackup(at, address, ok=False, why=str(failed)))
        raise failed from error
    _note(files, LastBackup(at, address, ok=True, last_good=at))
    return made


def _make(files: HomeFiles, address: str, keep: Keep, clock: Clock, tell: Tell) -> Made:
    at = int(clock.now())
    sources = sources_of(files)
    if not {"catalog", "history"} & sources.keys():
        raise BackupFailed(
            f"{files.home} holds neither {files.catalog.name} nor {files.history.name}: there is"
            " nothing to back up before a sync ran."
        )
    with single_instance(files.lock("backup"), "a backup"):
        target = open_target(address, files.home)
        names = set(target.names())
        while (name := backup_name(at, test=files.test)) in names:
            at += 1
        with target.staging(name) as staged:
            copies = make_copies(sources, staged, tell)
            manifest = Manifest(at, str(files.home), files.test, copies)
            note = msgspec.json.format(msgspec.json.encode(manifest))
            durable.write(staged / MANIFEST, note, durable.PRIVATE)
            tell(f"bringing it to {address}", 0, 1)
            target.publish(staged, name)
            removed = _prune(target, files, keep, at) if _is_clock_right(files, clock) else ()
        return Made(target.shown(name), manifest, removed)


def _is_clock_right(files: HomeFiles, clock: Clock) -> bool:
    """Whether age may decide what goes: not under a clock that Etsy's answers showed wrong."""
    quota = read_state(files.quota, None, clock)
    if quota is None or quota.clock is None or not quota.clock.wrong:
        return True
    log.warning("no old backup is removed: the clock was %s", quota.clock)
    return False


def _prune(target: Target, files: HomeFiles, keep: Keep, now: int) -> tuple[str, ...]:
    """Remove what the rule does not keep, and what an upload that was broken off left."""
    whole = target.whole_backups(test=files.test, home=str(files.home))
    kept = plan_keeping({name: one.made_at for name, one in whole.items()}, now, keep)
    doomed = [name for name in whole if name not in kept]
    for name in target.names():
        made_at = named_at(name, test=files.test)
        if made_at is not None and made_at < now - DAY_S and target.note(name) is None:
            doomed.append(name)
    for name in doomed:
        target.remove(name)
    return tuple(doomed)


def plan_keeping(made: Mapping[str, int], now: int, keep: Keep) -> set[str]:
    """Which of the backups (name: unix seconds) are kept; the newest always is."""
    kept: set[str] = set()
    newest_of_day: dict[date, str] = {}
    newest_of_week: dict[tuple[int, int], str] = {}
    for name in sorted(made, key=made.__getitem__):
        day = datetime.fromtimestamp(made[name], UTC).date()
        newest_of_day[day] = name
        newest_of_week[day.isocalendar()[:2]] = name
        if made[name] > now - DAY_S:
            kept.add(name)
    today = datetime.fromtimestamp(now, UTC).date()
    this_monday = today.toordinal() - today.weekday()
    for day, name in newest_of_day.items():
        if today.toordinal() - day.toordinal() < keep.days:
            kept.add(name)
    for (year, week), name in newest_of_week.items():
        monday = date.fromisocalendar(year, week, 1).toordinal()
        if (this_monday - monday) // 7 < keep.weeks:
            kept.add(name)
    if made:
        kept.add(max(made, key=made.__getitem__))
    return kept


def _note_file(files: HomeFiles) -> Path:
    return files.home / f".backup{'_test' if files.test else ''}.json"


def _note(files: HomeFiles, last: LastBackup) -> None:
    """Remember how it ended; a home without room for that is told of anyway."""
    before = read_last_backup(files)
    if not last.ok and before is not None:
        last = msgspec.structs.replace(last, last_good=before.last_good)
    path, content = _note_file(files), msgspec.json.encode(last)
    try:
        durable.write(path, content, durable.PRIVATE)
    except OSError:
        # No room for a line: an older note must not say that all is well, and its room will do.
        # On a read-only file system there is neither; the backup's own error is told anyway.
        with suppress(OSError):
            path.unlink(missing_ok=True)
            durable.write(path, content, durable.PRIVATE)


def read_last_backup(files: HomeFiles) -> LastBackup | None:
    """How the last backup ended; None where none was tried, or its note could not be written."""
    try:
        return msgspec.json.decode(_note_file(files).read_bytes(), type=LastBackup)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def default_address(files: HomeFiles) -> str:
    """The folder below the home where backups go that no place is named for."""
    return os.fspath(files.home / FOLDER)
