"""Brings databases and metadata from another computer: resumable, checked, then renamed.

    there: snapshot --> tail -c +N | ssh --> here: .NAME.SHA256.part --> checked --> NAME

A part bears the sha256 of the copy that it is a part of, so it is never mixed with another copy.
"""

import hashlib
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import msgspec

from furnisync import owned
from furnisync.config import HomeFiles
from furnisync.errors import UserError
from furnisync.lockfile import holder
from furnisync.ops.remote.host import RemoteHost, StepFailed
from furnisync.ops.remote.snapshot import Snapshot, Snapshots, pulled_files
from furnisync.ops.service.service import JOBS, TITLES

CHUNK_BYTES = 1 << 20

Told = Callable[[Snapshot, int], None]
"""Gets a file and how many of its bytes are here."""


def pull(host: RemoteHost, folder: Path, told: Told) -> list[Path]:
    """Bring the newest whole state into a folder.

    Returns:
        the files, each whole and checked.

    Raises:
        StepFailed: what arrived is kept; the same call goes on from there.
        UserError: a full or unwritable disk, or a sync runs in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_unused(folder)
        snapshots = _ask_for_snapshots(host, folder)
        pulled = [_pull_file(host, snapshots, file, folder, told) for file in snapshots.files]
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} could not be written ({error.strerror}): make room or"
            " name another folder with --to, then pull again."
        ) from error
    for left in _parts(folder):
        left.unlink()
    remove = f"rm -rf {shlex.quote(snapshots.folder)}"
    host.run("remove the copies there (all files are here)", remove)
    return pulled


def _check_unused(folder: Path) -> None:
    """A running sync must not lose its databases under its feet."""
    for job in JOBS:
        if (pid := holder(HomeFiles(folder).lock(job))) is not None:
            raise UserError(
                f"{TITLES[job].capitalize()} runs in {folder} (pid {pid}): name another folder with"
                " --to."
            )


def _parts(folder: Path) -> list[Path]:
    return [path for path in folder.glob(".*.part") if _sha256_of(path)]


def _sha256_of(part: Path) -> str | None:
    found = re.fullmatch(r"\..+\.([0-9a-f]{64})\.part", part.name)
    return found.group(1) if found else None


def _ask_for_snapshots(host: RemoteHost, folder: Path) -> Snapshots:
    begun = " ".join(filter(None, map(_sha256_of, _parts(folder))))
    script = host.inside(f"venv/bin/python -m furnisync.ops.remote.snapshot {begun}")
    answer = host.run("take the copies", script)
    try:
        snapshots = msgspec.json.decode(answer, type=Snapshots)
    except msgspec.DecodeError as error:
        raise StepFailed(
            f"{host.name}: its answer cannot be read ({error}): run"
            f" `furnisync remote {host.name} update`, so that both are of one version."
        ) from error
    ours = {path.name for path in pulled_files(HomeFiles(folder))}
    strange = [
        file.name
        for file in snapshots.files
        if file.name not in ours or not re.fullmatch("[0-9a-f]{64}", file.sha256)
    ]
    if strange or Path(snapshots.folder).name != ".furnisync-pull":
        raise StepFailed(
            f"{host.name}: it offers {strange or snapshots.folder}, which is not ours."
        )
    return snapshots


def _pull_file(
    host: RemoteHost, snapshots: Snapshots, file: Snapshot, folder: Path, told: Told
) -> Path:
    final = folder / file.name
    if final.exists() and final.stat().st_size == file.bytes and _digest(final) == file.sha256:
        told(file, file.bytes)
        return final
    part = folder / f".{file.name}.{file.sha256}.part"
    if part.exists() and part.stat().st_size > file.bytes:
        part.unlink()
    _fetch_rest(host, f"{snapshots.folder}/{file.name}", file, part, told)
    if _digest(part) != file.sha256:
        part.unlink()
        raise StepFailed(f"{host.name}: {file.name} arrived changed: run the same command again.")
    owned.put(part, final, sha256=file.sha256)
    return final


def _fetch_rest(host: RemoteHost, path: str, file: Snapshot, part: Path, told: Told) -> None:
    """Append what is missing; the part is on the disk when this returns.

    Raises:
        StepFailed: it broke off; the part stays.
    """
    with part.open("ab") as to:
        part.chmod(0o600)
        here = to.tell()
        told(file, here)
        if here == file.bytes:
            return
        with host.stream(f"exec tail -c +{here + 1} {shlex.quote(path)}") as process:
            assert process.stdout is not None
            while chunk := process.stdout.read(CHUNK_BYTES):
                to.write(chunk)
                here += len(chunk)
                told(file, here)
            words = process.stderr.read() if process.stderr is not None else b""
            status = process.wait()
        to.flush()
        os.fsync(to.fileno())
    if status != 0 or here != file.bytes:
        raise host.explain(f"bring {file.name}", status or 255, words)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
