"""Can images be written now? One answer with its true reason, and a test write before a yes.

folder here and ours? --> room enough? --> (after a refusal) a test write --> open
"""

import shutil
from contextlib import closing

import msgspec

from furnisync.catalog.image_folder import AWAY, why_away
from furnisync.catalog.schema import read_catalog
from furnisync.config import HomeFiles
from furnisync.identity import IMAGES_MARK, Mark, read_mark, write_mark
from furnisync.image_job import ImageReason, ReasonCode
from furnisync.status.images import PauseKind
from furnisync.store import NotStored
from furnisync.store.folder import FolderStore, not_stored

__all__ = ["FolderGate", "Pause"]


class Pause(msgspec.Struct, frozen=True):
    """Why downloads pause; `reason` is a sentence that says what to do."""

    kind: PauseKind
    reason: str


class FolderGate:
    """Guards the image folder of a home; for use from one thread at a time."""

    def __init__(
        self, files: HomeFiles, store: FolderStore, mark: Mark, min_free_mb: float
    ) -> None:
        """Make a gate; `mark` is the one that the folder should have."""
        self.store = store
        self._files = files
        self._mark = mark
        self._min_free_mb = min_free_mb

    def is_here(self) -> bool:
        """Whether the folder is here and this home's."""
        return self._why_away() is None

    def why_closed(self, *, test: bool) -> Pause | None:
        """Why nothing can be written now; None where it can.

        Args:
            test: write something to be sure; for use after a refusal.
        """
        folder = self._files.images
        try:
            if (why := self._why_away()) is not None:
                return Pause("away", why)
            free_mb = shutil.disk_usage(folder).free / 1e6
            if free_mb < self._min_free_mb:
                return Pause(
                    "room",
                    f"only {free_mb:,.0f} MB free in {folder}, at least"
                    f" {self._min_free_mb:,.0f} MB must stay free",
                )
            if test:
                self.store.probe()
        except NotStored as error:
            return self.pause_for(error.reason)
        except OSError as error:
            return self.pause_for(not_stored(error).reason)
        return None

    def pause_for(self, reason: ImageReason) -> Pause:
        """The pause that a reason of the store (`ImageReason.is_local`) requires."""
        folder = self._files.images
        if reason.code is ReasonCode.FOLDER_AWAY:
            return Pause("away", f"{AWAY} ({folder})")
        if reason.code is ReasonCode.DISK_FULL:
            return Pause("room", f"the disk of {folder} is full")
        return Pause(
            "unwritable",
            f"{folder} cannot be written ({reason.detail}): repair its permissions or its disk",
        )

    def _why_away(self) -> str | None:
        """Cheap while the folder has its mark; only otherwise is the catalog read."""
        try:
            if read_mark(self._files.images / IMAGES_MARK) == self._mark:
                return None
        except OSError as error:
            return f"{AWAY} ({self._files.images} cannot be read: {error.strerror})"
        if not self._files.catalog.exists():
            return f"the home is not here: mount its disk ({self._files.home})"
        with closing(read_catalog(self._files.catalog)) as catalog:
            why = why_away(catalog, self._files)
        if why is None:
            write_mark(self._files.images / IMAGES_MARK, self._mark)
        return why
