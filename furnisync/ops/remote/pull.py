"""Brings databases and metadata from another computer: resumable, checked, then renamed.

    there: snapshots --> rsync --> here: .furnisync-pulling/NAME --> all checked --> NAME

What a broken transfer left, and the file of the last pull, are what rsync starts from, so that only
differences are sent.
"""

import contextlib
import os
import shlex
import shutil
from pathlib import Path

import msgspec

from furnisync import owned
from furnisync.config import HomeFiles
from furnisync.errors import UserError
from furnisync.lockfile import holder, single_instance
from furnisync.ops.remote.host import CHECK_RSYNC, RemoteHost, StepFailed
from furnisync.ops.remote.snapshot import FOLDER, Snapshot, Snapshots, pulled_files
from furnisync.ops.service.service import JOBS, TITLES

STAGING = ".furnisync-pulling"
_snapshots = msgspec.json.Decoder(Snapshots)


def pull(host: RemoteHost, folder: Path, *, progress: bool) -> list[Path]:
    """Bring the newest state into a folder; its files are replaced when all have arrived.

    Args:
        host: from where.
        folder: where to.
        progress: let rsync show how far it is.

    Returns:
        the files, each complete and checked.

    Raises:
        StepFailed: what arrived is kept; the same call continues from there.
        UserError: a full or unwritable disk, or a sync or another pull runs in the folder.
    """
    files = HomeFiles(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_unused(files)
        with single_instance(files.lock("pull"), "a pull"):
            return _pull(host, files, progress=progress)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} could not be written ({error.strerror}): make room or"
            " name another folder with --to, then pull again."
        ) from error


def _check_unused(files: HomeFiles) -> None:
    """A running sync must not have its databases replaced."""
    for job in JOBS:
        if (pid := holder(files.lock(job))) is not None:
            raise UserError(
                f"{TITLES[job].capitalize()} runs in {files.home} (pid {pid}): name another folder"
                " with --to."
            )


def _pull(host: RemoteHost, files: HomeFiles, *, progress: bool) -> list[Path]:
    snapshots = _take_snapshots(host, files)
    staging = files.home / STAGING
    staging.mkdir(mode=0o700, exist_ok=True)
    for one in snapshots.files:
        part, final = staging / one.name, files.home / one.name
        if final.is_file() and not part.exists():
            shutil.copyfile(final, part)
        path = f"{snapshots.folder}/{one.name}"
        host.fetch(f"bring {one.name}", path, part, progress=progress)
        _check_arrived(host, part, one)
    for one in snapshots.files:
        owned.put(staging / one.name, files.home / one.name, sha256=one.sha256)
    with contextlib.suppress(OSError):  # a file in it that no pull brings any more
        staging.rmdir()
    host.run(
        "remove the copies there (all files are here)", f"rm -rf {shlex.quote(snapshots.folder)}"
    )
    return [files.home / one.name for one in snapshots.files]


def _take_snapshots(host: RemoteHost, files: HomeFiles) -> Snapshots:
    script = f"{CHECK_RSYNC} venv/bin/python -m furnisync.ops.remote.snapshot"
    answer = host.run("take the copies", host.inside(script))
    try:
        snapshots = _snapshots.decode(answer)
    except msgspec.DecodeError as error:
        raise StepFailed(
            f"{host.name}: its answer cannot be read ({error}): run"
            f" `furnisync remote {host.name} update`, so that both have one version."
        ) from error
    ours = {path.name for path in pulled_files(files)}
    strange = [one.name for one in snapshots.files if one.name not in ours]
    if strange or Path(snapshots.folder).name != FOLDER:
        raise StepFailed(
            f"{host.name}: it offers {strange or snapshots.folder}, which is not ours."
        )
    return snapshots


def _check_arrived(host: RemoteHost, part: Path, snapshot: Snapshot) -> None:
    """Make a file of ours lasting and private, if it is equal to the copy there."""
    if owned.digest(part) != snapshot.sha256:
        part.unlink()
        raise StepFailed(
            f"{host.name}: {snapshot.name} arrived changed: run the same command again."
        )
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
