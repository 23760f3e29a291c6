"""Files that are complete under their final name: written beside, synced, then renamed."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident
from typing import BinaryIO, Final

from furnisync.errors import ConfigError

PRIVATE: Final = 0o600
SHARED: Final = 0o666
"""Less what the umask takes."""
LOG: Final = "-wal"
INDEX: Final = "-shm"
"""What SQLite keeps beside a database."""
_MARK: Final = ".made-by-furnisync"
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


@contextmanager
def replacing(
    path: Path, mode: int = SHARED, place: Callable[[Path, Path], None] | None = None
) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` after the block has written all of it.

    Args:
        path: the final name.
        mode: of the file, before the umask.
        place: how the complete file gets its final name; default `put`.

    Raises:
        OSError: no space, or not writable; the file under the final name is unchanged.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with _open_anew(part, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        (place or put)(part, path)
    finally:
        part.unlink(missing_ok=True)


def write(path: Path, content: bytes, mode: int = SHARED) -> None:
    """Write a small file, completely or not at all; raises OSError as `replacing` does."""
    with replacing(path, mode) as file:
        file.write(content)


def create(path: Path, content: bytes, mode: int = SHARED) -> bool:
    """Write a new file, completely or not at all; False if the name exists.

    Raises:
        OSError: no space, or not writable.
    """
    if os.path.lexists(path):
        return False
    part = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.part")
    try:
        with _open_anew(part, mode) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_name(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def put(part: Path, path: Path) -> None:
    """Rename a complete file over `path`, durably."""
    part.replace(path)
    sync_folder(path.parent)


def give_name(part: Path, path: Path) -> None:
    """Rename a complete file to a free name, durably.

    Raises:
        FileExistsError: the name is not free; nothing is ever overwritten.
    """
    try:
        path.hardlink_to(part)
        part.unlink()
    except (OSError, NotImplementedError) as error:  # the latter where Python lacks os.link
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        path.touch(PRIVATE, exist_ok=False)  # the name is ours now
        part.replace(path)
    sync_folder(path.parent)


def keep_beside(path: Path) -> Path:
    """Rename a file to a free name, `NAME.kept-TIME[-NUMBER]`.

    The time is the file's own. The log of a database moves with it and is never lost: it has both
    names until the database has its new one.

    Returns:
        the new name.
    """
    when = datetime.fromtimestamp(path.lstat().st_mtime, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept, number = path.with_name(f"{path.name}.kept-{when}"), 1
    while not _claim(kept):
        number += 1
        kept = path.with_name(f"{path.name}.kept-{when}-{number}")
    log = path.with_name(path.name + LOG)
    if log.exists():
        copy(log, kept.with_name(kept.name + LOG))
    path.replace(kept)
    for ending in (LOG, INDEX):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    sync_folder(path.parent)
    return kept


def _claim(path: Path) -> bool:
    """Reserve a free name with an empty file."""
    try:
        path.touch(PRIVATE, exist_ok=False)
    except FileExistsError:
        return False
    return True


def copy(path: Path, to: Path) -> None:
    """Copy a file with its times, durably."""
    shutil.copy2(path, to)
    with to.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; what a killed run left in it is removed first.

    Raises:
        ConfigError: a folder of that name contains files that are not ours.
    """
    _remove_ours(folder)
    folder.mkdir(0o700, parents=True)
    (folder / _MARK).touch()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_ours(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir() or not (folder / _MARK).exists():
        try:
            folder.rmdir()  # killed before it was marked
        except OSError as error:
            raise ConfigError(
                f"{folder} is in the way, and nothing in it says that furnisync made it: move it"
                " away."
            ) from error
        return
    shutil.rmtree(folder)


def _open_anew(part: Path, mode: int) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.fdopen(os.open(part, flags, mode), "wb", buffering=1 << 20)
