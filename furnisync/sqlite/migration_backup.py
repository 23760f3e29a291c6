"""Before a migration a database is copied completely: `catalog.db.v5-backup` beside it.

To go back: stop the syncs, move the copy over the database, install the older program.
"""

import filecmp
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from furnisync import durable
from furnisync.errors import DatabaseFull, DatabaseUnusable

log = logging.getLogger("furnisync.sqlite")

SPARE_BYTES: Final = 50_000_000
"""Free space that the migration itself needs in addition to the copy."""


@contextmanager
def backed_up(path: Path, version: int, newest: int) -> Iterator[None]:
    """Copy a database of an older version durably before the block migrates it.

    The caller holds the write lock, so the copy is what the migration begins with. An existing
    copy is never overwritten: the next one gets a number. If the migration fails, its copy is
    removed, because nothing was changed.

    Args:
        path: the database.
        version: its present version.
        newest: its version after the migration.

    Raises:
        DatabaseFull: there is no space for it.
        DatabaseUnusable: the database is damaged.
        OSError, sqlite3.DatabaseError: it could not be read or written.
    """
    _check_room(path)
    log.info("%s: version %d is copied before it becomes %d", path.name, version, newest)
    part = path.with_name(f".{path.name}.v{version}-backup.part")
    try:
        _copy(path, part)
        backup, is_new = _give_name(part, path.with_name(f"{path.name}.v{version}-backup"))
    finally:
        for ending in ("", "-journal"):
            part.with_name(part.name + ending).unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            backup.unlink()
        raise
    log.info(
        "%s was brought from version %d to %d; as it was before, it is kept in %s",
        path.name, version, newest, backup,
    )  # fmt: skip


def remove_older(path: Path, application_id: int, version: int) -> None:
    """Remove copies of versions before `version`, after a migration is on the disk."""
    for found in sorted(path.parent.glob(f"{path.name}.v*-backup*")):
        match = re.fullmatch(r"\.v(\d+)-backup(-\d+)?", found.name.removeprefix(path.name))
        if match is None or int(match[1]) >= version:
            continue
        if _mark(found) == (application_id, int(match[1])):
            found.unlink()
            log.info("%s is not needed any more: removed", found.name)


def _check_room(path: Path) -> None:
    needed = path.stat().st_size + SPARE_BYTES
    with suppress(FileNotFoundError):
        needed += path.with_name(path.name + durable.LOG).stat().st_size
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DatabaseFull(
            f"{path} is of an older version and is copied before it is renewed: that needs"
            f" {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free on its disk: free some."
        )


def _copy(path: Path, part: Path) -> None:
    part.unlink(missing_ok=True)
    part.touch(durable.PRIVATE)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
        source.execute("PRAGMA query_only = ON")
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, wherever it is carried
        verdict = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise DatabaseUnusable(f"{path} is damaged ({verdict}): restore it from a backup.")
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _give_name(part: Path, backup: Path) -> tuple[Path, bool]:
    """Give the copy a free name unless an equal one exists; returns name and whether it is new."""
    name, number = backup.name, 1
    while True:
        try:
            durable.give_name(part, backup)
        except FileExistsError:
            if filecmp.cmp(part, backup, shallow=False):  # a run was killed before it migrated
                return backup, False
            number += 1
            backup = backup.with_name(f"{name}-{number}")
        else:
            return backup, True


def _mark(database: Path) -> tuple[int, int] | None:
    """A database's application id and version, as its header says them."""
    with database.open("rb") as file:
        header = file.read(72)
    if not header.startswith(b"SQLite format 3\0"):
        return None
    return int.from_bytes(header[68:72]), int.from_bytes(header[60:64])
