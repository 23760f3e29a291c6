"""`furnisync restore`: a backup replaces the databases of a home, which are kept beside.

Everything is fetched, checked and unpacked before anything is replaced. One rename replaces a
database, so its name is never missing.
"""

import contextlib
import os
import sqlite3
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from furnisync import durable
from furnisync.clock import Clock
from furnisync.config import HomeFiles
from furnisync.errors import ConfigError
from furnisync.lockfile import single_instance
from furnisync.ops.backup.archive import (
    APPLICATIONS,
    COPIES,
    BackupFailed,
    Manifest,
    Role,
    Tell,
    check_database,
    named_at,
    places_of,
    unpack,
)
from furnisync.ops.backup.targets import Target, open_target
from furnisync.ops.service.service import TITLES

STAGING: Final = ".restore"


class Restored(msgspec.Struct, frozen=True):
    """What was restored, and the files where its predecessors are kept."""

    address: str
    manifest: Manifest
    kept: tuple[Path, ...]


def restore_backup(files: HomeFiles, address: str, clock: Clock, tell: Tell) -> Restored:
    """Restore a backup.

    Args:
        files: of the home.
        address: of one backup, or of a place with several: then the newest.
        clock: for the names of the files that are kept.
        tell: gets how far it is.

    Raises:
        AlreadyRunning: a sync or a backup runs.
        BackupFailed: the backup is damaged, of a newer version, or could not be restored.
        ConfigError: there is no backup at that address.
    """
    with ExitStack() as stack:
        for job, title in (*TITLES.items(), ("backup", "a backup")):
            stack.enter_context(single_instance(files.lock(job), title))
        target, name, manifest = _find(files, address)
        try:
            with durable.scratch_folder(files.home / STAGING) as staged:
                fetched = _fetch(target, name, manifest, staged, tell)
                kept = _replace_all(files, fetched, int(clock.now()))
        except (OSError, sqlite3.DatabaseError) as error:
            raise BackupFailed(
                f"{target.shown(name)} could not be restored ({error}): free some disk in"
                f" {files.home}, then run the same command again."
            ) from error
    return Restored(target.shown(name), manifest, kept)


def _find(files: HomeFiles, address: str) -> tuple[Target, str, Manifest]:
    """The backup that an address names."""
    if "://" not in address and not Path(address).expanduser().is_dir():
        raise ConfigError(f"{address} is not a folder: name a backup, or the folder of backups.")
    place, _, name = address.rstrip("/").rpartition("/")
    if named_at(name, test=files.test) is not None:
        target = open_target(place or ".", files.home)
        manifest = target.manifest(name)
        if manifest is None:
            raise BackupFailed(f"{address} is no complete backup: name another one.")
        return target, name, manifest
    target = open_target(address, files.home)
    found = target.whole_backups(test=files.test, home=None)
    if not found:
        raise ConfigError(
            f"{address} holds no backup{' of test data' if files.test else ''}: name the folder or"
            " url that `furnisync backup` was given."
        )
    homes = {one.home for one in found.values()}
    if len(homes) > 1:
        raise ConfigError(
            f"{address} holds backups of several homes ({', '.join(sorted(homes))}): name one of"
            f" them, such as {target.shown(max(found))}."
        )
    newest = max(found)
    return target, newest, found[newest]


def _fetch(
    target: Target, name: str, manifest: Manifest, staged: Path, tell: Tell
) -> dict[Role, Path]:
    """All files of a backup, checked and unpacked."""
    found: dict[Role, Path] = {}
    for place, copied in enumerate(manifest.copies):
        tell(f"fetching and checking {copied.role}", place, len(manifest.copies))
        file = COPIES[copied.role]
        packed = target.fetch(name, file, staged / file)
        if not packed.exists():
            raise BackupFailed(f"{target.shown(name)} lacks {file}: name another backup.")
        whole = staged / copied.role
        unpack(copied, packed, whole)
        if copied.role in APPLICATIONS:
            check_database(copied.role, whole, copied.rows)
        found[copied.role] = whole
    return found


def _replace_all(files: HomeFiles, fetched: dict[Role, Path], now: int) -> tuple[Path, ...]:
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = []
    for role, whole in fetched.items():
        place = places_of(files)[role]
        if os.path.lexists(place) or _beside(place, durable.LOG).exists():
            kept.append(_keep(place, stamp))
        for ending in (durable.LOG, durable.INDEX):  # SQLite would apply them to the new database
            _beside(place, ending).unlink(missing_ok=True)
        durable.put(whole, place)
    return tuple(kept)


def _beside(database: Path, ending: str) -> Path:
    return database.with_name(database.name + ending)


def _keep(place: Path, stamp: str) -> Path:
    """Give what is to be replaced a second name, with all commits in its log."""
    kept, number = place.with_name(f"{place.stem}.before-restore-{stamp}{place.suffix}"), 1
    while kept.exists() or _beside(kept, durable.LOG).exists():
        number += 1
        kept = place.with_name(f"{place.stem}.before-restore-{stamp}-{number}{place.suffix}")
    if place.exists():
        with (
            contextlib.suppress(sqlite3.DatabaseError),  # a damaged one is kept as it is
            contextlib.closing(sqlite3.connect(place)) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        try:
            os.link(place, kept)
        except OSError:  # a file system without hard links
            durable.copy(place, kept)
    log = _beside(place, durable.LOG)
    if log.exists() and log.stat().st_size:
        durable.copy(log, _beside(kept, durable.LOG))
    durable.sync_folder(place.parent)
    return kept
