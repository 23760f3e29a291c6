"""What all stages of an import share: choices, report, transactions that a rehearsal takes back."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from furnisync.config import HomeFiles, ImageSize, Settings
from furnisync.importer.adopt import Adopt
from furnisync.importer.database import DAMAGED, Complain, OldDatabase
from furnisync.importer.report import Report
from furnisync.importer.tables import Role


class Progress(Protocol):
    """Shows how far a stage is."""

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """So much of a stage is done, in its own unit."""
        ...


class Choices(msgspec.Struct, frozen=True):
    """What the command line asked for.

    Attributes:
        adopt: what becomes of the image files.
        size: the CDN size that the older tool fetched; None: told by each picture.
        reread_reviews: do not trust that the older tool read all reviews.
        take_altered: take altered pictures too, beside Etsy's originals.
        dry: only tell what would happen.
    """

    adopt: Adopt = "place"
    size: ImageSize | None = None
    reread_reviews: bool = False
    take_altered: bool = False
    dry: bool = False


@dataclass(frozen=True)
class Run:
    """One import into a home; `now` in unix seconds."""

    files: HomeFiles
    settings: Settings
    choices: Choices
    now: int
    report: Report
    progress: Progress

    def attempt(self, connection: sqlite3.Connection, work: Callable[[], None]) -> None:
        """Run work as one transaction; a rehearsal takes it back."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            work()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("ROLLBACK" if self.choices.dry else "COMMIT")

    def complain(self, database: OldDatabase) -> Complain:
        """Takes what of a database cannot be used."""

        def complain(role: Role, where: str, why: str, number: int) -> None:
            what = "damaged sources" if why.startswith(DAMAGED) else "broken rows"
            self.report.leave_out(what, database.path.name, where, why)
            self.report.lose(source_of(database, role), why, number)

        return complain


def source_of(database: OldDatabase, role: Role) -> str:
    """A table as the report names it."""
    return f"{database.path.name}, {database.name(role)}"
