"""A catalogue that was lost: image files that lie here already are taken over, not fetched again.

    claims --> a file under the final name? --no--> to be fetched
                       | yes
               whole, an image, large enough? --no--> to be fetched
                       | yes
               an outcome as if it had been downloaded

Files are asked for by the names that Etsy tells, so the folder is never listed and memory does not
grow. What is taken over is a row of the catalogue: a kill costs only what was not committed yet.
"""

import hashlib
import logging
import re
import sqlite3
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from furnisync.catalog.queue import Claim
from furnisync.catalog.schema import add_event, get_meta, set_meta
from furnisync.config import ImageSettings
from furnisync.images.job import ImageJob, Outcome
from furnisync.images.picture import NotAnImage, inspect_image
from furnisync.images.sizes import size_of, smaller_than, url_of_size
from furnisync.images.store import EXTENSIONS, FolderStore

log = logging.getLogger("furnisync.images")

__all__ = ["Adoption", "begun_beside_files"]

BESIDE_FILES = "begun_beside_files"
LOST = (
    "the catalogue was begun anew beside image files: each is taken over, and not fetched again,"
    " once Etsy names it; `furnisync import` takes over the rest"
)
_OURS = re.compile(rf"\d+_\d+\.({'|'.join(EXTENSIONS)})")


def begun_beside_files(connection: sqlite3.Connection, root: Path, now: int) -> bool:
    """Whether the catalogue began beside image files that it does not know; decided and told once.

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
    """Takes over files for one download worker, on its thread."""

    def __init__(self, store: FolderStore, settings: ImageSettings) -> None:
        """Make it; a file is good enough if it can be of the size that the settings want."""
        self._store = store
        self._settings = settings
        self._found: deque[tuple[Claim, str]] = deque()
        self.taken = 0
        """How many files were taken over."""

    @property
    def waiting(self) -> int:
        """Files that were found and not looked at yet."""
        return len(self._found)

    def take(self, claims: Iterable[Claim]) -> list[Claim]:
        """Keep the claims whose file lies here; returns the others, which are to be fetched.

        An image that was tried or held before is never taken from the folder: its file may be the
        very one that was found damaged.
        """
        others = []
        for claim in claims:
            name = self._store.find(claim.listing_id, claim.image_id) if claim.untouched else None
            if name is None:
                others.append(claim)
            else:
                self._found.append((claim, name))
        return others

    def withdraw(self) -> list[Claim]:
        """Take back the claims whose files were not looked at yet."""
        claims = [claim for claim, _ in self._found]
        self._found.clear()
        return claims

    def work(self, for_s: float) -> tuple[list[Outcome], list[Claim]]:
        """Read files for about so many seconds.

        Returns:
            (what was taken over, the claims whose file will not do and that are to be fetched)
        """
        outcomes, others = list[Outcome](), list[Claim]()
        until = time.monotonic() + for_s
        while self._found and time.monotonic() < until:
            claim, name = self._found.popleft()
            outcome = self._read(claim, name)
            if outcome is None:
                others.append(claim)
            else:
                outcomes.append(outcome)
        self.taken += len(outcomes)
        return outcomes, others

    def _read(self, claim: Claim, name: str) -> Outcome | None:
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
        return Outcome(
            ImageJob(claim.listing_id, claim.image_id, url_of_size(claim.url, wanted)),
            "done",
            extension=picture.extension,
            size_bytes=len(body),
            width=picture.width,
            height=picture.height,
            sha256=hashlib.sha256(body).digest(),
            file=name,
        )
