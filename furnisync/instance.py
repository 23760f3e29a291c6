"""One instance of a job per home: a lock that the operating system frees when its holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from furnisync.errors import AlreadyRunning, NoRoom, is_disk_full

LOOKED_AT_S = 0.3
"""Whoever merely asks for the holder has the lock for less than this."""


@contextmanager
def single_instance(path: Path, job: str) -> Iterator[None]:
    """Hold the lock file `path` for the time of the block; it contains the holder's pid.

    Raises:
        AlreadyRunning: another process holds it; the message names its pid.
        NoRoom: the disk is full.
    """
    with path.open("a+") as file:
        if not _lock(file):
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise AlreadyRunning(
                f"{job} already runs on {path.parent} (pid {pid}): stop it first, a service by"
                " `furnisync service stop`, or set FURNISYNC_HOME to another folder."
            )
        file.truncate(0)
        _sign(file)
        yield
        file.truncate(0)


def _lock(file: TextIO) -> bool:
    """Take the lock; wait for who only looks at it."""
    until = time.monotonic() + LOOKED_AT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        else:
            return True


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
    """The pid that holds the lock file now, or None."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdecimal() else None
            return None
    except FileNotFoundError:
        return None
