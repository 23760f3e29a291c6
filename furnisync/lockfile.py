"""Locks between processes, which the operating system releases when their holder dies.

A job of a home runs once (`single_instance`), small shared files are changed by one process at a
time (`exclusive`). `flock` is tried first. Where the disk's file system has none (some NFS, SMB and
FUSE mounts) POSIX locks do the same, with two differences that this module hides: they do not
exclude threads of one process from each other, and closing any file handle of a process frees its
lock. So a lock file is opened nowhere else, and what this process holds is remembered here.
"""

import errno
import fcntl
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TextIO

from furnisync.errors import AlreadyRunning, LocksUnsupported, NoRoom, UserError, is_disk_full

LOOKED_AT_S = 0.3
"""A check for the holder keeps the lock for less than this."""

LockType = Literal["flock", "POSIX"]
_KINDS: Final[tuple[tuple[LockType, str], ...]] = (("flock", "flock"), ("POSIX", "lockf"))
_UNSUPPORTED: Final = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS}
)
_HELD_BY_ANOTHER: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})

_held: set[tuple[int, Path]] = set()
"""(pid, lock file) of each lock of this process; a forked child has another pid and no locks."""
_threads: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def single_instance(path: Path, job: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; it contains the holder's pid.

    Raises:
        AlreadyRunning: another process holds it; the message names its pid.
        LocksUnsupported: the file system has no locks.
        NoRoom: the disk is full.
        UserError: the lock file cannot be written.
    """
    mine = (os.getpid(), path.resolve())
    if mine in _held:
        raise _already_running(path, job, str(os.getpid()))
    with _open(path) as file:
        if not _wait(file):
            file.seek(0)
            raise _already_running(path, job, file.read().strip() or "unknown")
        _held.add(mine)
        try:
            file.truncate(0)
            _sign(file)
            yield
            file.truncate(0)
        finally:
            _held.discard(mine)


def _already_running(path: Path, job: str, pid: str) -> AlreadyRunning:
    return AlreadyRunning(
        f"{job} already runs on {path.parent} (pid {pid}): stop it first, a service by"
        " `furnisync service stop`, or set FURNISYNC_HOME to another folder."
    )


def _open(path: Path) -> TextIO:
    try:
        return path.open("a+")
    except OSError as error:
        raise (NoRoom if is_disk_full(error) else UserError)(
            f"{path} cannot be written ({error.strerror}): correct the permissions of its folder,"
            " free some disk, or set FURNISYNC_HOME to a folder that can be written."
        ) from error


def _wait(file: TextIO) -> bool:
    """Take the lock; wait for a process that only checks it."""
    until = time.monotonic() + LOOKED_AT_S
    while _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB) is None:
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True


def _lock(file: TextIO, operation: int) -> LockType | None:
    """Lock an open file; returns the type of lock, or None if another process holds it.

    Raises:
        LocksUnsupported: the file system has neither type.
    """
    for kind, name in _KINDS:
        try:
            getattr(fcntl, name)(file, operation)
        except OSError as error:
            if error.errno in _HELD_BY_ANOTHER:
                return None
            if error.errno not in _UNSUPPORTED:
                raise
            why = error.strerror
        else:
            return kind
    raise LocksUnsupported(
        f"{file.name} cannot be locked ({why}): its file system has no file locks, without which"
        " two programs could write the same data at once; move the home to a local disk and set"
        " FURNISYNC_HOME to it, or mount this one with locks."
    )


def _sign(file: TextIO) -> None:
    try:
        # Past the buffer, which would try again, and fail again, when the file is closed.
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise NoRoom(
            f"{file.name} cannot be written: there is no room on its disk, free some."
        ) from error


def holder(path: Path) -> int | None:
    """The pid that holds the lock file now, or None.

    Raises:
        LocksUnsupported: the file system has no locks.
    """
    if (os.getpid(), path.resolve()) in _held:
        return os.getpid()  # opening and closing the file would free a POSIX lock of ours
    try:
        with path.open("r") as file:
            if _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB) is not None:
                return None
            text = file.read().strip()
            return int(text) if text.isdecimal() else None
    except FileNotFoundError:
        return None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock file `path` and hold it during the block, against other threads too.

    Raises:
        LocksUnsupported: the file system has no locks.
        OSError: it cannot be written.
    """
    with _threads[path.resolve()], path.open("a") as file:
        _lock(file, fcntl.LOCK_EX)
        yield


def kind_of_locks(path: Path) -> LockType | None:
    """The type of lock of an existing file; None while another process holds it.

    Raises:
        LocksUnsupported: neither.
    """
    with path.open("r") as file:
        return _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
