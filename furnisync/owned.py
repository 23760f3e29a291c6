"""Which files did we write last? Only those are overwritten or removed.

`.NAME.written` beside a file records what was written, before the file gets its name:

    file complete beside --> recorded, together with what it replaces --> renamed

So after a kill at any instant the file is known. The record is by content, so a file is
still ours on another disk or beside a restored database; size and time only save reading it. Files
of another program, and files that a person edited, are kept beside under another name.
"""

import filecmp
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from furnisync import durable

log = logging.getLogger("furnisync.files")


class Written(msgspec.Struct, frozen=True):
    """A file as we wrote it."""

    bytes: int
    mtime_ns: int
    sha256: str


_written = msgspec.json.Decoder(list[Written])


def is_ours(path: Path) -> bool:
    """Whether the file under this name has exactly the bytes that we wrote last."""
    return _written_as(path) is not None


@contextmanager
def replacing(
    path: Path, mode: int = durable.SHARED, kept_in: Path | None = None
) -> Iterator[BinaryIO]:
    """Like `durable.replacing`, but a file that we did not write last is kept beside and logged.

    `kept_in` is a path where the same file may be kept already.
    """
    with durable.replacing(path, mode, lambda part, to: put(part, to, kept_in=kept_in)) as file:
        yield file


def put(part: Path, path: Path, *, kept_in: Path | None = None, sha256: str | None = None) -> None:
    """Rename a complete file over `path`, durably; a foreign file there is kept and logged.

    Args:
        part: the new file, already on the disk.
        path: its final name.
        kept_in: a path where the file to replace may be kept already.
        sha256: of `part`, in hex, if the caller knows it.
    """
    before = _written_as(path)
    if os.path.lexists(path) and before is None and not _same(path, kept_in):
        keep(path)
    status = part.stat()
    now = Written(status.st_size, status.st_mtime_ns, sha256 or digest(part))
    note = msgspec.json.encode([now] if before is None else [now, before])
    durable.write(_note(path), note, durable.PRIVATE)
    for ending in (durable.LOG, durable.INDEX):  # SQLite would apply them to the new file
        path.with_name(path.name + ending).unlink(missing_ok=True)
    durable.put(part, path)


def remove(path: Path) -> None:
    """Remove a file of ours; one that is not ours is kept beside and logged."""
    if is_ours(path):
        path.unlink()
    elif os.path.lexists(path):
        keep(path)
    _note(path).unlink(missing_ok=True)


def keep(path: Path, why: str = "was not written by furnisync, or was changed since") -> Path:
    """Rename a file that is not ours, log it, and return its new name."""
    kept = durable.keep_beside(path)
    log.warning("%s %s: it is kept as %s", path, why, kept.name)
    return kept


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name.removeprefix('.')}.written")


def _written_as(path: Path) -> Written | None:
    """The record of the file under this name; None if it is not as we wrote it."""
    try:
        noted = _written.decode(_note(path).read_bytes())
        status = path.stat()
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    alike = [one for one in noted if one.bytes == status.st_size]
    if not alike or _changed_in_log(path):
        return None
    for one in alike:
        if one.mtime_ns == status.st_mtime_ns:
            return one
    sha256 = digest(path)
    return next((one for one in alike if one.sha256 == sha256), None)


def _changed_in_log(path: Path) -> bool:
    """Whether the log beside a database has changes."""
    try:
        return path.with_name(path.name + durable.LOG).stat().st_size > 0
    except FileNotFoundError:
        return False


def _same(path: Path, other: Path | None) -> bool:
    if other is None or not other.exists() or not path.exists():
        return False
    return path.samefile(other) or filecmp.cmp(path, other, shallow=False)


def digest(path: Path) -> str:
    """Sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
