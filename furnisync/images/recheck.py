"""After an unclean end: are the files of the last minutes what their rows say?

Files are not fsynced one by one (see `store/folder.py`). `kill -9` cannot damage them, a power cut
can: the system may lose what it had not yet written out, at most some minutes' worth.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Callable

from furnisync.catalog import image_queue
from furnisync.catalog.schema import get_meta, set_meta
from furnisync.clock import Clock
from furnisync.image_job import ReasonCode
from furnisync.sqlite.writer import Writer
from furnisync.store import Store

log = logging.getLogger("furnisync.download")

UNWRITTEN_S = 600
"""Older data than this is on the disk: systems write out within a minute."""
CLEAN_END = "clean_end"
ALIVE_AT = "alive_at"
RECHECK_SINCE = "recheck_since"
"""Files since then must still be checked: kept until that is done, however often a run dies."""


def mark_running(connection: sqlite3.Connection, now: int) -> bool:
    """Note that a run began, at this time (unix seconds).

    Returns:
        whether no files need a check, since the run before it ended cleanly.
    """
    if get_meta(connection, CLEAN_END) == "0" and get_meta(connection, RECHECK_SINCE) is None:
        alive_at = int(get_meta(connection, ALIVE_AT) or now)
        set_meta(connection, RECHECK_SINCE, str(alive_at - UNWRITTEN_S))
    set_meta(connection, CLEAN_END, "0")
    mark_alive(connection, now)  # a kill in the first seconds leaves a time all the same
    return get_meta(connection, RECHECK_SINCE) is None


def mark_alive(connection: sqlite3.Connection, now: int) -> None:
    """Note that the run is alive at this time."""
    set_meta(connection, ALIVE_AT, str(now))


def mark_ended(connection: sqlite3.Connection) -> None:
    """Note that the run ended cleanly."""
    set_meta(connection, CLEAN_END, "1")


def recheck_recent(
    writer: Writer,
    store: Store,
    clock: Clock,
    here: Callable[[], bool],
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Read the files of the last minutes before the end; queue again what is not whole.

    It stops when `stopping` says so or the folder is not `here`; the next run does it then.

    Returns:
        how many were queued.
    """
    files = writer.submit(_recent).result()
    if files:
        log.info("the last run did not end cleanly: checking its last %d images", len(files))
    wrong = []
    for listing_id, image_id, file, sha256 in files:
        if stopping():
            return 0
        if not _is_whole(store, file, sha256):
            wrong.append((listing_id, image_id))
    if wrong and not here():
        return 0  # files on a disk that is away are not lost
    if wrong:
        log.warning(
            "%d images were damaged when the last run ended; fetching them again", len(wrong)
        )
    writer.submit(_end_recheck, wrong, int(clock.now())).result()
    return len(wrong)


def _recent(connection: sqlite3.Connection) -> list[tuple[int, int, str, bytes]]:
    return image_queue.recent_files(connection, int(get_meta(connection, RECHECK_SINCE) or 0))


def _end_recheck(connection: sqlite3.Connection, wrong: list[tuple[int, int]], now: int) -> None:
    image_queue.requeue(connection, wrong, ReasonCode.DAMAGED, now)
    set_meta(connection, RECHECK_SINCE, None)


def _is_whole(store: Store, file: str, sha256: bytes) -> bool:
    try:
        with store.open(file) as content:
            return hashlib.sha256(content.read()).digest() == sha256
    except OSError:
        return False
