"""Runs on the other computer: takes complete copies of databases and metadata for `remote pull`.

Databases are copied as for a backup: checked, all as of one moment, while the syncs run. The copies
stay until the pull has all of them.
"""

import shutil
import sqlite3
import sys
from pathlib import Path

import msgspec

from furnisync import owned
from furnisync.config import HomeFiles, read_environment
from furnisync.errors import UserError
from furnisync.home import require_home
from furnisync.ops.backup.archive import copy_databases, sources_of

FOLDER = ".furnisync-pull"
SPARE_BYTES = 200_000_000
EXIT_USAGE = 2


class Snapshot(msgspec.Struct, frozen=True):
    """A copy that waits to be fetched."""

    name: str
    bytes: int
    sha256: str


class Snapshots(msgspec.Struct, frozen=True):
    """All copies, and their folder."""

    folder: str
    files: tuple[Snapshot, ...]


def pulled_files(files: HomeFiles) -> tuple[Path, ...]:
    """The files that a pull brings."""
    return (files.catalog, files.history, files.metadata, files.plan)


def take_snapshots(files: HomeFiles) -> Snapshots:
    """Copy the files that exist; copies of an earlier pull are replaced.

    Raises:
        UserError: nothing to copy, no room, or a damaged database.
    """
    found = [path for path in pulled_files(files) if path.exists()]
    if not found:
        raise UserError(f"{files.home} holds nothing to pull yet: run a sync there first.")
    folder = files.home / FOLDER
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        _check_room(found, folder)
        sources = sources_of(files)
        for role, copy, _ in copy_databases(sources, folder):
            copy.replace(folder / sources[role].name)
        for path in (files.metadata, files.plan):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        copies = [copy for path in found if (copy := folder / path.name).exists()]
        taken = [Snapshot(one.name, one.stat().st_size, owned.digest(one)) for one in copies]
    except (OSError, sqlite3.DatabaseError) as error:
        raise UserError(
            f"{files.home} could not be copied ({error}): repair that and pull again."
        ) from error
    return Snapshots(str(folder), tuple(taken))


def _check_room(found: list[Path], folder: Path) -> None:
    needed = sum(path.stat().st_size for path in found) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free // 10**6} MB free, the copies need {needed // 10**6} MB: make room"
            " there."
        )


def main() -> int:
    """Take the copies and print what they are as JSON."""
    try:
        files = HomeFiles(read_environment().home)
        require_home(files)
        snapshots = take_snapshots(files)
    except UserError as error:
        sys.stderr.write(f"furnisync: {error}\n")
        return EXIT_USAGE
    sys.stdout.write(msgspec.json.encode(snapshots).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
