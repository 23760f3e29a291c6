"""`furnisync backup`: both databases as of one moment, while the syncs run.

    databases ──snapshot──> copies ──checked, packed──> staging folder ──> target; old ones removed

It keeps every backup of the last 24 hours, the newest of each of the last days, and the newest of
each of the last weeks. Only backups of the same home are ever counted or removed.
"""

import logging
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
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
"""The default place, below the home."""


class Keep(msgspec.Struct, frozen=True):
    """For how many days and weeks a backup is kept, today and this week included."""

    days: int = 7
    weeks: int = 8


class Made(msgspec.Struct, frozen=True):
    """A finished backup, and the older ones that were removed after it."""

    address: str
    manifest: Manifest
    removed: tuple[str, ...]


class LastBackup(msgspec.Struct, frozen=True):
    """How the last backup of a home ended; `why` if it failed."""

    at: int
    target: str
    ok: bool
    why: str | None = None
    last_good: int | None = None


_last_backup = msgspec.json.Decoder(LastBackup)


def make_backup(files: HomeFiles, address: str, keep: Keep, clock: Clock, tell: Tell) -> Made:
    """Make a backup, then remove those that the rule does not keep.

    The result is noted in the home, for `status` and notices.

    Args:
        files: of the home.
        address: a folder, or a url.
        keep: the rule.
        clock: for its name.
        tell: gets how far it is.

    Raises:
        BackupFailed: it could not be made; earlier backups are unchanged.
        AlreadyRunning: another backup runs.
        ConfigError: the address cannot be used.
    """
    at = int(clock.now())
    try:
        made = _make(files, address, keep, clock, tell)
    except AlreadyRunning:
        raise
    except FurnisyncError as error:
        if home_is_here(files.home):  # never write into the mount point of a missing disk
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
            tell(f"copying it to {address}", 0, 1)
            target.publish(staged, name)
            removed = _prune(target, files, keep, at) if _is_clock_right(files, clock) else ()
        return Made(target.shown(name), manifest, removed)


def _is_clock_right(files: HomeFiles, clock: Clock) -> bool:
    """Whether backups may be removed by age; False if Etsy's answers showed a wrong clock."""
    quota = read_state(files.quota, None, clock)
    if quota is None or quota.clock is None or not quota.clock.wrong:
        return True
    log.warning("no old backup is removed: the clock was %s", quota.clock)
    return False


def _prune(target: Target, files: HomeFiles, keep: Keep, now: int) -> tuple[str, ...]:
    """Remove what the rule does not keep, and incomplete uploads."""
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
    by_age = sorted(made, key=made.__getitem__)
    newest_of_day = {_day(made[name]): name for name in by_age}
    newest_of_week = {_week(made[name]): name for name in by_age}
    return {
        *by_age[-1:],
        *(name for name in by_age if made[name] > now - DAY_S),
        *(name for day, name in newest_of_day.items() if _day(now) - day < keep.days),
        *(name for week, name in newest_of_week.items() if _week(now) - week < keep.weeks),
    }


def _day(at: int) -> int:
    """Days of UTC since 1970."""
    return int(at // DAY_S)


def _week(at: int) -> int:
    """Weeks of UTC since 1970, from Monday on; 1970 began on a Thursday."""
    return (_day(at) + 3) // 7


def _note_file(files: HomeFiles) -> Path:
    return files.home / f".backup{'_test' if files.test else ''}.json"


def _note(files: HomeFiles, last: LastBackup) -> None:
    """Note the result. A full disk prevents no report: the caller raises its own error."""
    before = read_last_backup(files)
    if not last.ok and before is not None:
        last = msgspec.structs.replace(last, last_good=before.last_good)
    path, content = _note_file(files), msgspec.json.encode(last)
    try:
        durable.write(path, content, durable.PRIVATE)
    except OSError:
        # An older note must not say that all is well, and its room is enough for this one.
        with suppress(OSError):
            path.unlink(missing_ok=True)
            durable.write(path, content, durable.PRIVATE)


def read_last_backup(files: HomeFiles) -> LastBackup | None:
    """How the last backup ended; None if none was tried, or its note could not be written."""
    try:
        return _last_backup.decode(_note_file(files).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def default_address(files: HomeFiles) -> str:
    """The address of backups that were given none."""
    return os.fspath(files.home / FOLDER)
