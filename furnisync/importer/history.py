"""Reads the older tool's tables as history: null in a dynamic table meant unchanged, and is filled.

| older tool                                       | here                                          |
| ------------------------------------------------ | --------------------------------------------- |
| static row, one for each id                      | static row at its own or first known time     |
| dynamic row, null = unchanged                    | dynamic row with the last known value         |
| a field that is static there and dynamic here    | repeated in every dynamic row (the price)     |
| a field that is dynamic there and static here    | a static row when it changed                  |
| `sync_state`: last_shop_sync                     | when the shop is due again                    |
| `sync_state`: last_review_timestamps             | where the next walk over its reviews ends     |
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from furnisync.history.arrivals import review_signals
from furnisync.history.fields.definitions import LISTING_FIELDS, REVIEW_FIELDS, SHOP_FIELDS, Field
from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Object, as_id, as_json
from furnisync.history.imported import ImportedShopState, ImportedSnapshots, SnapshotKind
from furnisync.importer.database import SourceDatabase, as_time
from furnisync.importer.report import Reason
from furnisync.importer.tables import KEYS, FieldColumns, Role, Row

DYNAMIC: Final[dict[SnapshotKind, Role]] = {
    "shops": "shops_dynamic",
    "listings": "listings_dynamic",
}
_FIELDS: Final[dict[Role, tuple[Field, ...]]] = {
    "shops": SHOP_FIELDS,
    "shops_dynamic": SHOP_FIELDS,
    "listings": LISTING_FIELDS,
    "listings_dynamic": LISTING_FIELDS,
    "reviews": REVIEW_FIELDS,
}
_CHANGING: Final = {
    role: frozenset(one.name for one in fields if one.dynamic) for role, fields in _FIELDS.items()
}
_SYNC_TIMES: Final = ("last_sync", "synced_at", "timestamp", "snapshot_timestamp")


class SourceHistory:
    """The snapshots, reviews and shop states of an older database."""

    def __init__(self, database: SourceDatabase) -> None:
        self._database = database
        self._columns = {
            role: FieldColumns(database.columns[role], fields) for role, fields in _FIELDS.items()
        }
        self._shops_with_listings = database.shops_with_listings()
        self._synced, self._reviewed = _sync_times(database.state(), database.newest_reviews())

    def unknown_columns(self) -> list[tuple[Role, str]]:
        """Columns that hold no field of Etsy's API."""
        return [(role, name) for role, columns in self._columns.items() for name in columns.unknown]

    def widened(self, selection: Selection) -> Selection:
        """The selection with all fields that the tables hold."""
        columns = self._columns

        def more(selected: Any, *roles: Role) -> set[str]:
            return {one.name for one in selected}.union(*(columns[role].names for role in roles))

        return Selection.of(
            more(selection.shops, "shops", "shops_dynamic"),
            more(selection.listings, "listings", "listings_dynamic"),
            more(selection.reviews, "reviews"),
            selection.buyers,
        )

    # -- snapshots -----------------------------------------------------------------------------

    def snapshots(self, kind: SnapshotKind) -> Iterator[ImportedSnapshots]:
        """Every shop or listing with all its rows, by id."""
        statics = self._by_id(kind, kind)
        dynamics = self._by_id(DYNAMIC[kind], kind, "snapshot_timestamp", "id")
        for key, static, dynamic in _joined(statics, dynamics):
            shop_id = key if kind == "shops" else _shop_of([*static, *dynamic])
            if shop_id is not None:
                yield self._snapshots_of(kind, ImportedSnapshots(key, shop_id), static, dynamic)
                continue
            for role, lost in ((kind, static), (DYNAMIC[kind], dynamic)):
                if lost:
                    self._database.skip(role, key, Reason.NO_SHOP_ID, lost=len(lost))

    def _by_id(
        self, role: Role, kind: SnapshotKind, *order: str
    ) -> Iterator[tuple[int, list[Row]]]:
        """Rows of a role, grouped by a valid id."""
        name = KEYS[kind]
        for key, group in groupby(
            self._database.rows(role, name, *order), lambda row: row.get(name)
        ):
            rows = list(group)
            if isinstance(key, int) and key > 0:
                yield key, rows
            else:
                self._database.skip(role, repr(key), Reason.NO_ID, lost=len(rows))

    def _snapshots_of(
        self, kind: SnapshotKind, found: ImportedSnapshots, static: list[Row], dynamic: list[Row]
    ) -> ImportedSnapshots:
        """Turn an id's rows into full snapshots."""
        began, first, later = self._static(kind, static)
        events = [(time, row, False) for time, row in later]
        events += [
            (time, row, True) for time, row in self._dated(DYNAMIC[kind], found.key, dynamic)
        ]
        events.sort(key=lambda event: event[0])
        start = began or (events[0][0] if events else None)
        found.undated = start is None
        start = start or self._database.written_at
        values, fixed = _split(kind, first)
        if static:
            found.static.append((start, fixed))
        for time, row, is_dynamic in events:
            new_values, new_fixed = _split(kind, row)
            differs = any(values.get(name, value) != value for name, value in new_values.items())
            if began and began < time and not found.dynamic and differs:
                found.dynamic.append((began, values))  # the first values, before they changed
            new_fixed = {**fixed, **new_fixed}
            if new_fixed != fixed:
                _put(found.static, time, new_fixed)
            fixed, values = new_fixed, {**values, **new_values}
            if is_dynamic or new_values:
                _put(found.dynamic, time, values)
        if not found.dynamic and values:
            found.dynamic.append((start, values))
        return found

    def _static(
        self, kind: SnapshotKind, rows: list[Row]
    ) -> tuple[int | None, Row, list[tuple[int, Row]]]:
        """The first static row with its time, and those that were written later, by time.

        Rows without a time fill what the first leaves out. Rows of one time are the same row,
        kept in two tables.
        """
        read = self._columns[kind].read
        timed = [(as_time(row.get("snapshot_timestamp")), read(row)) for row in rows]
        began = min((time for time, _ in timed if time is not None), default=None)
        first: Row = {}
        for time, row in timed:
            if time in (None, began):
                first = {**row, **first}
        later = [(time, row) for time, row in timed if time is not None and time != began]
        return began, first, later

    def _dated(self, role: Role, key: int, rows: list[Row]) -> Iterator[tuple[int, Row]]:
        for row in rows:
            given = row.get("snapshot_timestamp")
            if (time := as_time(given)) is None:
                self._database.skip(role, key, Reason.NO_SNAPSHOT_TIME, as_json(given))
            else:
                yield time, self._columns[role].read(row)

    # -- reviews, states -----------------------------------------------------------------------

    def reviews(self) -> Iterator[tuple[int, Object]]:
        """Every review with its snapshot time."""
        for row in self._database.rows("reviews"):
            review = self._columns["reviews"].read(row)
            if as_id(review.get("shop_id")) is None:
                self._database.skip("reviews", row.get("id", ""), Reason.NO_SHOP_ID)
                continue
            snapshot = as_time(row.get("snapshot_timestamp"))
            created = as_time(review.get("create_timestamp"))
            yield snapshot or created or self._database.written_at, review

    def shop_state(
        self, shop: ImportedSnapshots, *, reread_reviews: bool
    ) -> ImportedShopState | None:
        """How far the older tool was with a shop; None if it never finished it.

        The tool noted a shop as synced even if its listings had failed: one that has active
        listings, by its own count, of which none was collected has to be synced again.
        """
        if not shop.dynamic:
            return None
        newest, values = shop.dynamic[-1]
        last = newest if self._synced is None else self._synced.get(shop.key)
        is_empty = shop.key not in self._shops_with_listings
        if last is None or (is_empty and values.get("listing_active_count") != 0):
            return None
        return ImportedShopState(
            shop.key,
            first_sync=min(shop.dynamic[0][0], last),
            last_sync=last,
            last_static=shop.static[-1][0] if shop.static else 0,
            signals=review_signals(values),
            walked=not reread_reviews,
            watermark=None if reread_reviews else self._reviewed.get(shop.key),
        )


def _split(kind: SnapshotKind, row: Row) -> tuple[Row, Row]:
    """Values that are dynamic here, and those that are static here."""
    changing = _CHANGING[kind]
    dynamic = {name: value for name, value in row.items() if name in changing}
    return dynamic, {name: value for name, value in row.items() if name not in changing}


def _put(rows: list[tuple[int, Object]], time: int, values: Object) -> None:
    """Append a snapshot; one that is not newer than the last replaces its values."""
    if rows and rows[-1][0] >= time:
        rows[-1] = (rows[-1][0], values)
    else:
        rows.append((time, values))


_ById = Iterator[tuple[int, list[Row]]]


def _joined(statics: _ById, dynamics: _ById) -> Iterator[tuple[int, list[Row], list[Row]]]:
    """Merge two streams that are sorted by id."""
    static, dynamic = next(statics, None), next(dynamics, None)
    while static is not None or dynamic is not None:
        key = min(one[0] for one in (static, dynamic) if one is not None)
        static_rows, dynamic_rows = [], []
        if static is not None and static[0] == key:
            static_rows, static = static[1], next(statics, None)
        if dynamic is not None and dynamic[0] == key:
            dynamic_rows, dynamic = dynamic[1], next(dynamics, None)
        yield key, static_rows, dynamic_rows


def _shop_of(rows: list[Row]) -> int | None:
    return next((shop for row in rows if (shop := as_id(row.get("shop_id"))) is not None), None)


def _sync_times(
    state: dict[str, Any], newest_reviews: dict[int, int]
) -> tuple[dict[int, int] | None, dict[int, int]]:
    """When each shop was synced, and its newest review, from any key of `sync_state`.

    Returns:
        Times by shop in unix seconds. The first is None if the tool kept no such list: then a
        shop's newest row says when it was synced.
    """
    synced: dict[int, int] | None = None
    reviewed = newest_reviews
    for key, value in state.items():
        if not isinstance(value, dict):
            continue
        times = {
            shop_id: time
            for shop, entry in value.items()
            if (shop_id := as_id(shop)) and (time := as_time(_time_in(entry)))
        }
        if "review" in key:
            # A review that was noted but is not in the table was not kept.
            reviewed = {
                shop: min(times.get(shop, time), time) for shop, time in newest_reviews.items()
            }
        elif "shop" in key or "sync" in key:
            synced = {**(synced or {}), **times}
    return synced, reviewed


def _time_in(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    return next((entry[name] for name in _SYNC_TIMES if name in entry), None)
