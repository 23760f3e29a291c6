"""Runs on the other computer: takes whole copies of databases and metadata for `remote pull`.

A database is copied by SQLite's online backup, while the sync writes to it: the copy is the state
at one instant. Copies stay until the pull has all of them, so that a transfer that broke off goes
on where it was instead of beginning with a newer copy.
"""

import hashlib
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import msgspec

from furnisync.config import HomeFiles, read_environment
from furnisync.errors import UserError
from furnisync.home import require_home
from furnisync.sqlite_connection import choose_reading

FOLDER = ".furnisync-pull"
SPARE_BYTES = 200_000_000
EXIT_USAGE = 2


class Snapshot(msgspec.Struct, frozen=True):
    """A copy that waits to be fetched."""

    name: str
    bytes: int
    sha256: str


class Snapshots(msgspec.Struct, frozen=True):
    """All copies, and the folder they lie in."""

    folder: str
    files: tuple[Snapshot, ...]


def pulled_files(files: HomeFiles) -> tuple[Path, ...]:
    """What a pull brings."""
    return (files.catalog, files.history, files.metadata, files.plan)


def take_snapshots(files: HomeFiles, begun: frozenset[str]) -> Snapshots:
    """Copy what there is.

    Args:
        files: of the home.
        begun: sha256 of copies of which the other side has a part: these are kept.

    Raises:
        UserError: no room, or a damaged database.
    """
    folder = files.home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    taken = [
        _kept(folder / path.name, begun) or _take(path, folder / path.name)
        for path in pulled_files(files)
        if path.exists()
    ]
    if not taken:
        raise UserError(f"{files.home} holds nothing to bring yet: run a sync there first.")
    return Snapshots(str(folder), tuple(taken))


def _note(copy: Path) -> Path:
    return copy.with_name(copy.name + ".json")


def _kept(copy: Path, begun: frozenset[str]) -> Snapshot | None:
    try:
        snapshot = msgspec.json.decode(_note(copy).read_bytes(), type=Snapshot)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return snapshot if snapshot.sha256 in begun and copy.exists() else None


def _take(path: Path, copy: Path) -> Snapshot:
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    _note(copy).unlink(missing_ok=True)
    try:
        if path.suffix == ".db":
            _copy_database(path, part)
        else:
            # Written whole and renamed by the sync, so this file never changes: a second name does.
            try:
                os.link(path, part)
            except OSError:  # a file system without hard links
                shutil.copy2(path, part)
    except (OSError, sqlite3.DatabaseError) as error:
        raise UserError(
            f"{path} could not be copied ({error}): mend that and pull again."
        ) from error
    part.replace(copy)
    with copy.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    snapshot = Snapshot(copy.name, copy.stat().st_size, digest)
    _note(copy).write_bytes(msgspec.json.encode(snapshot))
    return snapshot


def _copy_database(path: Path, part: Path) -> None:
    needed = path.stat().st_size + SPARE_BYTES
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise UserError(
            f"{part.parent} has {free // 10**6} MB free, a copy of {path.name} needs"
            f" {needed // 10**6} MB: make room there."
        )
    address = choose_reading(path).address
    with (
        closing(sqlite3.connect(address, timeout=60, uri=True)) as source,
        closing(sqlite3.connect(part)) as to,
    ):
        # In one step: many small ones begin anew whenever the sync commits.
        source.backup(to, pages=-1)
        # A copy without a WAL is one file, wherever it is carried.
        to.execute("PRAGMA journal_mode = DELETE")
        found = to.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise UserError(
            f"{path} is damaged ({found}): stop the sync there and restore it from a backup."
        )


def main(begun: list[str]) -> int:
    """Take them and tell them as JSON on standard output."""
    try:
        files = HomeFiles(read_environment().home)
        require_home(files)
        snapshots = take_snapshots(files, frozenset(begun))
    except UserError as error:
        sys.stderr.write(f"furnisync: {error}\n")
        return EXIT_USAGE
    sys.stdout.write(msgspec.json.encode(snapshots).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
