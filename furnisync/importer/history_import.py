"""The history's part of an import: shops, listings and reviews of an older database."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from furnisync.history.fields import Object
from furnisync.history.imported import (
    Kind,
    OldShopState,
    OldSnapshots,
    take_reviews,
    take_shop_states,
    take_snapshots,
)
from furnisync.history.pseudonyms import read_buyers
from furnisync.history.purge import purged_ids
from furnisync.history.schema import open_history
from furnisync.history.selection import Selection
from furnisync.importer.database import OldDatabase
from furnisync.importer.history import DYNAMIC, ROLES_OF_HISTORY, OldHistory
from furnisync.importer.run import Run, source_of

_AT_ONCE: Final = 1000

T = TypeVar("T")


class HistoryTakeover:
    """Takes one old database over into the history."""

    def __init__(self, run: Run, database: OldDatabase) -> None:
        self._run = run
        self._database = database
        self._written_at = int(database.path.stat().st_mtime)
        self._report = run.report

    def take(self, scratch: Path) -> None:
        """Take all of it; a rehearsal fills an empty history in the scratch folder."""
        data = self._run.settings.data
        old = OldHistory(self._database, self._written_at, self._run.complain(self._database))
        self._tell_unknown(old)
        selection = old.widened(
            Selection.of(
                data.shop_fields,
                data.listing_fields,
                data.review_fields,
                read_buyers(self._run.files.buyer_key, data.buyer_user_id),
            )
        )
        # Even a rehearsal would add columns: it fills an empty history instead.
        path = scratch / "history.db" if self._run.choices.dry else self._run.files.history
        with closing(open_history(path, selection)) as history:
            self._take_snapshots(history, selection, old, "shops")
            self._take_snapshots(history, selection, old, "listings")
            self._take_reviews(history, selection, old)
            # Last of all: a shop counts as synced only once all of it is here.
            self._take_states(
                history, OldHistory(self._database, self._written_at, lambda *_: None)
            )
        for role, _ in ROLES_OF_HISTORY:
            self._report.read(source_of(self._database, role), self._database.count(role))

    def _tell_unknown(self, old: OldHistory) -> None:
        name = self._database.path.name
        for column in old.unknown_columns():
            reason = "a column that is none of the fields of Etsy's API"
            self._report.leave_out("columns left behind", name, column, reason)
        for table in self._database.others:
            if rows := self._database.count_table(table):
                reason = f"{rows:,} rows of columns that are not known: {', '.join(table.columns)}"
                self._report.leave_out("tables left behind", name, table.name, reason)

    def _take_snapshots(
        self, history: sqlite3.Connection, selection: Selection, old: OldHistory, kind: Kind
    ) -> None:
        done, total = 0, self._database.count(DYNAMIC[kind])
        purged = purged_ids(history, "shop")  # rows of a listing over time do not name its shop
        for chunk in _chunks(old.snapshots(kind)):

            def take(chunk: list[OldSnapshots] = chunk) -> None:
                chunk = [one for one in chunk if one.shop_id not in purged]
                static, dynamic = take_snapshots(history, selection, kind, chunk)
                self._report.count(f"rows of {kind}", static)
                self._report.count(f"rows of {kind}_dynamic", dynamic)

            self._run.attempt(history, take)
            done += sum(len(one.dynamic) for one in chunk)
            self._run.progress(f"{kind} over time", done, total)

    def _take_reviews(
        self, history: sqlite3.Connection, selection: Selection, old: OldHistory
    ) -> None:
        done, total = 0, self._database.count("reviews")
        for chunk in _chunks(old.reviews()):

            def take(chunk: list[tuple[int, Object]] = chunk) -> None:
                self._report.count("rows of reviews", take_reviews(history, selection, chunk))

            self._run.attempt(history, take)
            done += len(chunk)
            self._run.progress("reviews", done, total)

    def _take_states(self, history: sqlite3.Connection, old: OldHistory) -> None:
        reread = self._run.choices.reread_reviews
        for chunk in _chunks(old.snapshots("shops")):
            states = [old.shop_state(shop, reread_reviews=reread) for shop in chunk]

            def take(states: list[OldShopState | None] = states) -> None:
                told = [state for state in states if state is not None]
                self._report.count("shops that count as synced", take_shop_states(history, told))

            self._run.attempt(history, take)


def _chunks(items: Iterator[T]) -> Iterator[list[T]]:
    while chunk := list(islice(items, _AT_ONCE)):
        yield chunk
