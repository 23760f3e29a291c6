"""`furnisync verify`: compares disk, catalog and history.

    image rows --> files (there? as long? with --sha256 equal to the byte?)
    files --> image rows (extra files are reported, never deleted)
    rows --> their parents; catalog --> history; SQLite's own check of both files

It reads in short steps and may run beside the syncs. A repair writes the catalog, so image sync
must not run; its next run downloads again what was repaired.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, Protocol

import msgspec

from furnisync.catalog.image_folder import accept_folder, check_folder
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.clock import Clock
from furnisync.config import HomeFiles
from furnisync.errors import ConfigError
from furnisync.history.schema import open_history_reader
from furnisync.lockfile import holder, single_instance
from furnisync.ops.checks import verify_rows
from furnisync.ops.checks.verify_images import (
    SUSPECTS_MAX,
    Damage,
    ImageCheck,
    ImageTrouble,
    requeue_troubles,
)
from furnisync.ops.checks.verify_rows import RowTrouble
from furnisync.sqlite.database import transaction
from furnisync.store.folder import FolderStore

EXAMPLES_MAX = 1000
"""So many image troubles are listed; all are counted."""


class VerifyReport(msgspec.Struct):
    """What was found.

    Attributes:
        images: image rows with a file that were compared with the disk.
        files: files that were compared with the rows.
        numbers: image troubles by kind.
        troubles: the first of them.
        rows: rows that should not exist.
        repaired: images and parents that the next run of image sync restores.
        wrong: what is wrong and was not repaired; extra files are harmless and do not count.
    """

    images: int = 0
    files: int = 0
    numbers: dict[Damage, int] = {}
    troubles: list[ImageTrouble] = []
    rows: list[RowTrouble] = []
    repaired: int = 0
    wrong: int = 0


class Progress(Protocol):
    """Shows how far it is."""

    def begin(self, title: str, total: int | None) -> None:
        """Begin a part of `total` steps; None if not known."""
        ...

    def step(self, number: int) -> None:
        """Advance by so many steps."""
        ...


class Verify:
    """One check of a home."""

    def __init__(
        self,
        files: HomeFiles,
        clock: Clock,
        progress: Progress,
        *,
        sha256: bool,
        repair: bool,
        accept_folder: bool = False,
    ) -> None:
        """Prepare the check of a home.

        Args:
            files: of the home.
            clock: the time.
            progress: shows how far it is.
            sha256: read every file.
            repair: queue again what is damaged.
            accept_folder: accept the image folder as it is, though it lacks this home's mark.

        Raises:
            ConfigError: there is nothing to check, or `accept_folder` without `repair`.
        """
        if accept_folder and not repair:
            raise ConfigError("--accept-folder is part of a repair: add --repair.")
        if not files.catalog.exists() and not files.history.exists():
            raise ConfigError(f"{files.home} holds no dataset yet: run sync_images.py first.")
        self._files = files
        self._clock = clock
        self._progress = progress
        self._sha256 = sha256
        self._repair = repair
        self._accept_folder = accept_folder
        self._counting: Literal["images", "files"] = "images"
        self.report = VerifyReport()

    def run(self) -> VerifyReport:
        """Check everything.

        Raises:
            AlreadyRunning: a repair while image sync runs.
            NotHere: the image folder is away.
            UserError: a database cannot be used.
        """
        with ExitStack() as stack:
            if self._repair:
                lock = self._files.lock("images")
                stack.enter_context(single_instance(lock, "image sync"))
            if self._files.catalog.exists():
                self._check_catalog()
            if self._files.history.exists():
                self._check_history()
        return self.report

    # -- the catalog and the disk ------------------------------------------------------------

    def _check_catalog(self) -> None:
        path = self._files.catalog
        with closing(open_catalog(path) if self._repair else read_catalog(path)) as catalog:
            if self._is_damaged(catalog, "catalog", path):
                return
            counters = dict(catalog.execute("SELECT name, value FROM counters").fetchall())
            done = counters.get("images.done", 0)
            self._check_folder(catalog)
            check = ImageCheck(
                catalog,
                FolderStore(self._files.images),
                sha256=self._sha256,
                sync_runs=lambda: not self._repair and self._runs(),
                step=self._step,
            )
            self._progress.begin("images on the disk", done)
            self._counting = "images"
            waiting: list[ImageTrouble] = []
            for trouble in chain(check.check_rows(), check.check_rows("altered_images")):
                self._add(trouble)
                if self._repair and trouble.repairable:
                    waiting.append(trouble)
                if len(waiting) >= SUSPECTS_MAX:
                    self._requeue(catalog, waiting)
                    waiting = []
            self._requeue(catalog, waiting)
            check_folder(catalog, self._files)  # if it was unmounted since, the result is not valid
            self._progress.begin("files in the catalog", done)
            self._counting = "files"
            for trouble in check.check_files():
                self._add(trouble)
            self._check_rows(catalog)

    def _runs(self) -> bool:
        return holder(self._files.lock("images")) is not None

    def _check_folder(self, catalog: Connection) -> None:
        """A missing image folder must not be reported as ten million missing files."""
        if self._accept_folder:
            with transaction(catalog):
                accept_folder(catalog, self._files)
        check_folder(catalog, self._files)

    def _step(self, number: int) -> None:
        if self._counting == "images":
            self.report.images += number
        else:
            self.report.files += number
        self._progress.step(number)

    def _add(self, trouble: ImageTrouble) -> None:
        numbers, kind = self.report.numbers, trouble.kind
        numbers[kind] = numbers.get(kind, 0) + 1
        if len(self.report.troubles) < EXAMPLES_MAX:
            self.report.troubles.append(trouble)
        if kind != "extra" and not (self._repair and trouble.repairable):
            self.report.wrong += 1

    def _requeue(self, catalog: Connection, troubles: list[ImageTrouble]) -> None:
        if not troubles:
            return
        check_folder(catalog, self._files)
        with transaction(catalog):
            requeue_troubles(catalog, troubles, int(self._clock.now()))
        self.report.repaired += len(troubles)

    def _check_rows(self, catalog: Connection) -> None:
        self._progress.begin("rows of the catalog", None)
        found = list(verify_rows.check_rows(catalog, "catalog", verify_rows.CATALOG))
        if self._repair and any(one.words in verify_rows.REPAIRABLE for one in found):
            with transaction(catalog):
                verify_rows.restore_parents(catalog, int(self._clock.now()))
        for one in found:
            self._add_rows(one, repaired=self._repair and one.words in verify_rows.REPAIRABLE)
        if self._files.history.exists():
            self._progress.begin("catalog and history", None)
            self._add_all("history", verify_rows.check_both(catalog, self._files.history))

    def _is_damaged(self, connection: Connection, database: str, path: Path) -> bool:
        """Let SQLite check the file first: rows of a damaged one mislead."""
        self._progress.begin(f"pages of {path.name}", None)
        found = list(verify_rows.check_pages(connection, database))
        for one in found:
            self._add_rows(one, repaired=False)
        return bool(found)

    # -- the history ---------------------------------------------------------------------------

    def _check_history(self) -> None:
        with closing(open_history_reader(self._files.history)) as history:
            if self._is_damaged(history, "history", self._files.history):
                return
            self._progress.begin("rows of the history", None)
            questions = verify_rows.HISTORY
            self._add_all("history", verify_rows.check_rows(history, "history", questions))

    def _add_all(self, database: str, troubles: Iterator[RowTrouble]) -> None:
        for one in verify_rows.readable(database, troubles):
            self._add_rows(one, repaired=False)

    def _add_rows(self, trouble: RowTrouble, *, repaired: bool) -> None:
        self.report.rows.append(trouble)
        if repaired:
            self.report.repaired += trouble.number
        else:
            self.report.wrong += trouble.number
