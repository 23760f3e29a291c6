"""Writes shops, listings and reviews of an older database into the history."""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.history.fields.selection import Selection
from furnisync.history.imported import (
    ImportedShopState,
    SnapshotKind,
    import_shop_states,
    import_snapshots,
)
from furnisync.history.purge import purged_ids
from furnisync.history.reviews import append_dated
from furnisync.history.schema import open_history
from furnisync.importer.database import SourceDatabase
from furnisync.importer.history import DYNAMIC, SourceHistory
from furnisync.importer.report import Reason
from furnisync.importer.run import Run, chunks
from furnisync.importer.scratch import ScratchList, scratch_database

_CHUNK: Final = 1000


class HistoryImport:
    """One database on its way into the history."""

    def __init__(self, run: Run, database: SourceDatabase) -> None:
        self._run = run
        self._report = run.report
        self._database = database
        self._source = SourceHistory(database)
        data = run.settings.data
        self._selection = self._source.widened(
            Selection.of(
                data.shop_fields,
                data.listing_fields,
                data.review_fields,
                read_buyers(run.files.buyer_key, data.buyer_user_id),
            )
        )

    def run(self, scratch: Path) -> None:
        """Import all of it; a rehearsal fills an empty history in the scratch folder."""
        self._report_unknown()
        # A rehearsal in the home's own history would add columns to it.
        path = scratch / "history.db" if self._run.choices.dry else self._run.files.history
        with ExitStack() as stack:
            history = stack.enter_context(closing(open_history(path, self._selection)))
            connection = stack.enter_context(scratch_database(scratch / "states.db"))
            states = ScratchList(connection, ImportedShopState)
            self._import_snapshots(history, "shops", states)
            self._import_snapshots(history, "listings", states)
            self._import_reviews(history)
            # Last of all: a shop counts as synced only when all of it is here.
            for chunk in chunks(states.by_key(), _CHUNK):
                with self._run.transaction(history):
                    synced = import_shop_states(history, chunk)
                    self._report.count("shops that count as synced", synced)

    def _report_unknown(self) -> None:
        for role, column in self._source.unknown_columns():
            where = (self._database.source(role), column)
            self._report.leave_out("columns left behind", where, Reason.UNKNOWN_COLUMN)
        for table in self._database.unknown:
            if rows := self._database.count(table):
                where = (self._database.path.name, table.name)
                detail = f"{rows:,} rows of {', '.join(table.columns)}"
                self._report.leave_out("tables left behind", where, Reason.UNKNOWN_TABLE, detail)

    def _import_snapshots(
        self,
        history: sqlite3.Connection,
        kind: SnapshotKind,
        states: ScratchList[ImportedShopState],
    ) -> None:
        done, total = 0, self._database.count(*self._database.tables[DYNAMIC[kind]])
        reread = self._run.choices.reread_reviews
        purged = purged_ids(history, "shop")  # rows of a listing over time do not name its shop
        for chunk in chunks(self._source.snapshots(kind), _CHUNK):
            kept = [one for one in chunk if one.shop_id not in purged]
            with self._run.transaction(history):
                static, dynamic = import_snapshots(history, self._selection, kind, kept)
            self._report.count(f"rows of {kind}", static)
            self._report.count(f"rows of {kind}_dynamic", dynamic)
            if kind == "shops":
                states.add(
                    (one.key, state)
                    for one in kept
                    if (state := self._source.shop_state(one, reread_reviews=reread))
                )
            done += sum(len(one.dynamic) for one in chunk)
            self._run.progress(f"{kind} over time", done, total)

    def _import_reviews(self, history: sqlite3.Connection) -> None:
        done, total = 0, self._database.count(*self._database.tables["reviews"])
        for chunk in chunks(self._source.reviews(), _CHUNK):
            with self._run.transaction(history):
                new = append_dated(history, self._selection, chunk)
            self._report.count("rows of reviews", new)
            done += len(chunk)
            self._run.progress("reviews", done, total)
