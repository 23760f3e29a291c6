"""The one writer of a database, and reads in a thread: no event loop waits for a disk."""

import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from furnisync.errors import DatabaseUnusable, NotHere
from furnisync.sqlite.database import lacks_room, transaction

log = logging.getLogger("furnisync.sqlite")

P = ParamSpec("P")
T = TypeVar("T")

NO_ROOM_RETRY_S = 5.0


async def read_in_thread(
    read: Callable[Concatenate[sqlite3.Connection, P], T],
    connection: sqlite3.Connection,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run `read(connection, ...)` in a thread; if it is cancelled, it waits for the thread to end.

    So the caller may close the connection after a cancellation: closing it while a thread reads
    would crash the process.
    """
    import asyncio  # noqa: PLC0415 -- a fifth of what `status` costs, and only syncs wait here

    reading = asyncio.create_task(asyncio.to_thread(read, connection, *args, **kwargs))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait([reading])
        raise


class Writer:
    """The one writer of a database: a connection and the thread that owns it.

    Submitted work runs in sequence, each piece in its own transaction, so that the
    event loop never waits for a disk and a page is committed completely. If the disk is
    full, the writer waits, logs it, and retries the same transaction, so that no spent call is
    lost. So work may run more than once, and must not take iterators.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        *,
        no_room_retry_s: float = NO_ROOM_RETRY_S,
    ) -> None:
        self._connection = connection
        self._name = name
        self._no_room_retry_s = no_room_retry_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._hurried = threading.Event()
        self._waits = False

    def submit(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """Queue `work(connection, ...)` as one transaction; usable from any thread."""

        def run() -> T:
            while True:
                try:
                    with transaction(self._connection):
                        result = work(self._connection, *args, **kwargs)
                except sqlite3.OperationalError as error:
                    self._wait_for_room(error)
                else:
                    self._tell_room()
                    return result

        return self._thread.submit(run)

    def _wait_for_room(self, error: sqlite3.OperationalError) -> None:
        if not lacks_room(error):
            raise error
        if not self._is_there():
            raise NotHere(
                f"The {self._name} is missing ({error}): mount its disk, then start"
                " again; what was committed is kept."
            ) from error
        if not self._waits:
            self._waits = True
            log.error("the %s waits: there is no room on its disk (%s)", self._name, error)
        if self._hurried.wait(self._no_room_retry_s):
            raise DatabaseUnusable(
                f"The {self._name} could not be written to its end ({error}): free some disk and"
                " run again; what was not saved is fetched again."
            ) from error

    def _is_there(self) -> bool:
        """Whether the file is still where it was opened; a disk that was removed looks full."""
        path = self._connection.execute("PRAGMA database_list").fetchone()[2]
        try:
            return not path or Path(path).exists()
        except OSError:
            return False

    def _tell_room(self) -> None:
        if self._waits:
            self._waits = False
            log.warning("the %s continues: there is room on its disk again", self._name)

    def hurry(self) -> None:
        """Stop waiting for space: from now on a full disk is an error, because the run ends."""
        self._hurried.set()

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """`submit` for coroutines: returns once the transaction is committed.

        The wait is shielded, so that a cancelled caller never leaves a transaction undecided.
        """
        import asyncio  # noqa: PLC0415 -- as above

        done = asyncio.wrap_future(self.submit(work, *args, **kwargs))
        # If the caller was cancelled, nothing else retrieves the error.
        done.add_done_callback(lambda one: one.cancelled() or one.exception())
        return await asyncio.shield(done)

    def close(self) -> None:
        """Finish what is queued, then close the connection."""
        self.hurry()
        self._thread.shutdown(wait=True)
        self._connection.close()
