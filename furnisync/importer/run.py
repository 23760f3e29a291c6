"""What all stages of an import share: the choices, the report, transactions, work in chunks."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol, TypeVar

import msgspec

from furnisync.config import HomeFiles, ImageSize, Settings
from furnisync.importer.report import Report
from furnisync.sqlite.database import transaction

Adopt = Literal["place", "link", "move", "copy"]
T = TypeVar("T")


class Progress(Protocol):
    """Shows the progress of a stage."""

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Show that `done` of `total` is finished, in the stage's own unit; None: not known."""
        ...


class Choices(msgspec.Struct, frozen=True):
    """The options of the command line.

    Attributes:
        adopt: how image files get into the image folder.
        size: the CDN size that the older tool fetched; None: decided by the pixels of each file.
        reread_reviews: do not trust that the older tool read all reviews.
        take_altered: import altered images too, beside Etsy's originals.
        dry: a rehearsal, which writes nothing but the report.
    """

    adopt: Adopt = "place"
    size: ImageSize | None = None
    reread_reviews: bool = False
    take_altered: bool = False
    dry: bool = False


class _Rehearsed(Exception):
    """Ends the transaction of a rehearsal."""


@dataclass(frozen=True)
class Run:
    """One import into a home; `now` in unix seconds."""

    files: HomeFiles
    settings: Settings
    choices: Choices
    now: int
    report: Report
    progress: Progress

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A transaction for the time of the block; a rehearsal rolls it back."""
        with suppress(_Rehearsed), transaction(connection):
            yield
            if self.choices.dry:
                raise _Rehearsed


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
