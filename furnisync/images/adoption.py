"""A lost catalog: image files that are here already are adopted, not fetched again.

    jobs --> a file under the final name? --no--> to be fetched
                       | yes
               whole, an image, large enough? --no--> to be fetched
                       | yes
               an outcome as if it had been downloaded

Files are looked up by the names that Etsy's ids give, so the folder is never listed and memory does
not grow. An adopted file becomes a row of the catalog: a kill loses only what was not committed.
"""

import logging
import re
import sqlite3
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from furnisync.catalog.schema import add_event, get_meta, set_meta
from furnisync.config import ImageSettings
from furnisync.download.check import stored
from furnisync.download.sizes import size_of, smaller_than
from furnisync.image_job import ImageJob, ImageOutcome
from furnisync.store.folder import EXTENSIONS, FolderStore
from furnisync.store.image_format import NotAnImage, inspect_image

log = logging.getLogger("furnisync.images")

__all__ = ["Adoption", "begun_beside_files"]

BESIDE_FILES = "begun_beside_files"
"""Key of `meta`."""
LOST = (
    "catalog.db is new beside image files: each is adopted, and not fetched again, once Etsy names"
    " it; `furnisync import` adopts the rest"
)
_OURS = re.compile(rf"\d+_\d+\.({'|'.join(EXTENSIONS)})")


def begun_beside_files(connection: sqlite3.Connection, root: Path, now: int) -> bool:
    """Whether the catalog was made beside image files that it does not know; decided once.

    Call inside a transaction, before anything is downloaded; `now` is in unix seconds.

    Raises:
        OSError: the folder cannot be read.
    """
    decided = get_meta(connection, BESIDE_FILES)
    if decided is None:
        held = "SELECT 1 FROM images WHERE done_at IS NOT NULL LIMIT 1"
        known = connection.execute(held).fetchone() is not None
        decided = "0" if known or not _has_files(root) else "1"
        set_meta(connection, BESIDE_FILES, decided)
        if decided == "1":
            log.warning(LOST)
            add_event(connection, now, "catalogue-lost", LOST)
    return decided == "1"


def _has_files(root: Path) -> bool:
    return any(
        _OURS.fullmatch(file.name)
        for folder in root.glob("[0-9][0-9][0-9]")
        if folder.is_dir()
        for file in folder.iterdir()
    )


class Adoption:
    """Adopts files for one download worker, on its thread.

    Attributes:
        adopted: how many files were adopted.
    """

    def __init__(self, store: FolderStore, settings: ImageSettings) -> None:
        """Make it; a file is good enough if it can have the size that the settings want."""
        self._store = store
        self._settings = settings
        self._found: deque[tuple[ImageJob, str]] = deque()
        self.adopted = 0

    @property
    def waiting(self) -> int:
        """Files that were found and not read yet."""
        return len(self._found)

    def take(self, jobs: Iterable[ImageJob]) -> list[ImageJob]:
        """Keep the jobs whose file is here; returns the others, which are to be fetched.

        An image that was tried or held before is never adopted: its file may be the very one that
        was found damaged.
        """
        others = []
        for job in jobs:
            name = self._store.find(*job.key) if job.untouched else None
            if name is None:
                others.append(job)
            else:
                self._found.append((job, name))
        return others

    def withdraw(self) -> list[ImageJob]:
        """Take back the jobs whose files were not read yet."""
        jobs = [job for job, _ in self._found]
        self._found.clear()
        return jobs

    def work(self, for_s: float) -> tuple[list[ImageOutcome], list[ImageJob]]:
        """Read files for about so many seconds.

        Returns:
            (outcomes of adopted files, jobs whose file is not good enough and that are to be
            fetched)
        """
        outcomes, others = list[ImageOutcome](), list[ImageJob]()
        until = time.monotonic() + for_s
        while self._found and time.monotonic() < until:
            job, name = self._found.popleft()
            outcome = self._read(job, name)
            if outcome is None:
                others.append(job)
            else:
                outcomes.append(outcome)
        self.adopted += len(outcomes)
        return outcomes, others

    def _read(self, job: ImageJob, name: str) -> ImageOutcome | None:
        wanted = self._settings.size
        try:
            with self._store.open(name) as file:
                body = file.read()
            picture = inspect_image(body, self._settings.max_pixels)
        except (OSError, NotAnImage):
            return None  # it is fetched like any other, and replaced
        large_enough = size_of(picture, wanted) not in smaller_than(wanted)
        if not large_enough or not name.endswith(f".{picture.extension}"):
            return None
        return stored(job, picture, body, name)
