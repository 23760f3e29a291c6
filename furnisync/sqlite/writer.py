"""The one writer of a database, and reads in a thread: no event loop waits for a disk."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from furnisync.errors import DatabaseUnusable, NotHere
from furnisync.sqlite.database import lacks_room, transaction

log = logging.getLogger("furnisync.sqlite")

P = ParamSpec("P")
T = TypeVar("T")

NO_ROOM_RETRY_S = 5.0
GROUP_MOST = 64
GROUP_S = 0.1
"""A group takes no further work after so long, so that nobody waits for long."""


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


class _Work(NamedTuple):
    """Work that was submitted, and where its result goes."""

    run: Callable[[sqlite3.Connection], Any]
    future: Future[Any]


class _Ended(NamedTuple):
    """How a piece of work ended inside its transaction."""

    result: Any = None
    error: BaseException | None = None


class Writer:
    """The one writer of a database: a connection and the thread that owns it.

    Submitted work runs in sequence, each piece whole or not at all, so that the event loop never
    waits for a disk and a page is committed completely. Work that waits is committed as a group:
    one wait for the disk serves all of it, and each caller goes on once its own is on the disk. If
    the disk is full, the writer waits, logs it, and retries the same transaction, so that no spent
    call is lost. So work may run more than once, and must not take iterators.
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
        self._waiting: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False
        self._hurried = threading.Event()
        self._waits = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        """Queue `work(connection, ...)`, which is committed whole; usable from any thread.

        Raises:
            RuntimeError: the writer was closed.
        """
        if self._closed:
            raise RuntimeError(f"the writer of the {self._name} is closed")
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._waiting.put(_Work(lambda connection: work(connection, *args, **kwargs), future))
        return future

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            group = [first]
            for work, ended in zip(group, self._end_group(group), strict=True):
                if ended.error is None:
                    work.future.set_result(ended.result)
                else:
                    work.future.set_exception(ended.error)

    def _end_group(self, group: list[_Work]) -> list[_Ended]:
        """Commit the work and what else waits, which is added to `group`.

        If that fails as a whole, each piece is tried alone, so that an error meets only its cause.
        """
        try:
            return self._commit_group(group, GROUP_MOST)
        except BaseException as error:  # noqa: BLE001 -- it is its caller's
            if len(group) == 1:
                return [_Ended(error=error)]
            return [self._end_alone(work) for work in group]

    def _end_alone(self, work: _Work) -> _Ended:
        try:
            return self._commit_group([work], 1)[0]
        except BaseException as error:  # noqa: BLE001 -- as above
            return _Ended(error=error)

    def _commit_group(self, group: list[_Work], most: int) -> list[_Ended]:
        """Commit a group of at most so many; waits while there is no room."""
        while True:
            try:
                with transaction(self._connection):
                    ended = self._run_group(group, most)
            except sqlite3.OperationalError as error:
                self._wait_for_room(error)
            else:
                self._tell_room()
                return ended

    def _run_group(self, group: list[_Work], most: int) -> list[_Ended]:
        began = time.monotonic()
        ended = [self._run_one(work) for work in group]
        while len(group) < most and time.monotonic() - began < GROUP_S:
            try:
                work = self._waiting.get_nowait()
            except Empty:
                break
            if work is None:
                self._waiting.put(None)  # the end: it comes last
                break
            group.append(work)
            ended.append(self._run_one(work))
        return ended

    def _run_one(self, work: _Work) -> _Ended:
        """Run work so that its error undoes only itself."""
        self._connection.execute("SAVEPOINT work")
        try:
            result = work.run(self._connection)
        except Exception as error:
            if isinstance(error, sqlite3.DatabaseError) and lacks_room(error):
                raise
            if not self._connection.in_transaction:
                raise  # SQLite undid everything: nothing of the group is kept
            self._connection.execute("ROLLBACK TO work")
            self._connection.execute("RELEASE work")
            return _Ended(error=error)
        self._connection.execute("RELEASE work")
        return _Ended(result)

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
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()
        self._connection.close()
