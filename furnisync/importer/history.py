"""The older tool's tables as history: null in a dynamic table meant unchanged, and is filled.

| older tool                                      | here                                           |
| ----------------------------------------------- | ---------------------------------------------- |
| static row, one for each id                     | static row at its own time, or the first known |
| dynamic row, null = unchanged                   | dynamic row with the last value in its place   |
| a field that is static there and dynamic here   | carried into every dynamic row (the price)     |
| a field that is dynamic there and static here   | a static row where it changed                  |
| `sync_state`: last_shop_sync                    | when the shop is due again                     |
| `sync_state`: last_review_timestamps            | where the next walk over its reviews ends      |
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from furnisync.history.arrivals import review_signals
from furnisync.history.fields import (
    LISTING_FIELDS,
    REVIEW_FIELDS,
    SHOP_FIELDS,
    Field,
    Object,
    as_id,
    as_json,
)
from furnisync.history.imported import Kind, OldShopState, OldSnapshots
from furnisync.history.selection import Selection
from furnisync.importer.database import Complain, Naming, OldDatabase, Row, as_time
from furnisync.importer.tables import KEYS, Role

_FIELDS: Final = {"shops": SHOP_FIELDS, "listings": LISTING_FIELDS}
DYNAMIC: Final[dict[Kind, Role]] = {"shops": "shops_dynamic", "listings": "listings_dynamic"}
ROLES_OF_HISTORY: Final[tuple[tuple[Role, tuple[Field, ...]], ...]] = (
    ("shops", SHOP_FIELDS),
    ("shops_dynamic", SHOP_FIELDS),
    ("listings", LISTING_FIELDS),
    ("listings_dynamic", LISTING_FIELDS),
    ("reviews", REVIEW_FIELDS),
)


class OldHistory:
    """Reads one old database as snapshots, reviews and shop states.

    Args:
        database: the file.
        written_at: when it was last written; the time of rows that nothing else dates.
        complain: takes rows that cannot be used.
    """

    def __init__(self, database: OldDatabase, written_at: int, complain: Complain) -> None:
        self._database = database
        self._written_at = written_at
        self._complain = complain
        self._naming = {
            role: Naming(database.columns[role], fields) for role, fields in ROLES_OF_HISTORY
        }
        self._syncs = _Stamps(database.state(), database.newest_reviews())
        self._shops_with_listings = database.shops_with_listings()

    def unknown_columns(self) -> list[str]:
        """Columns that hold no field of Etsy's API and are left behind, as `table.column`."""
        return [
            f"{self._database.name(role)}.{column}"
            for role, naming in self._naming.items()
            for column in naming.unknown
        ]

    def widened(self, selection: Selection) -> Selection:
        """The selection with all fields that the old tables hold."""
        names = self._naming

        def more(selected: Any, *roles: Role) -> set[str]:
            return {one.name for one in selected}.union(*(names[role].names for role in roles))

        return Selection.of(
            more(selection.shops, "shops", "shops_dynamic"),
            more(selection.listings, "listings", "listings_dynamic"),
            more(selection.reviews, "reviews"),
            selection.buyers,
        )

    # -- snapshots -----------------------------------------------------------------------------

    def snapshots(self, kind: Kind) -> Iterator[OldSnapshots]:
        """Every shop or listing with all its rows, by id."""
        statics = self._keyed(kind, kind, ())
        dynamics = self._keyed(DYNAMIC[kind], kind, ("snapshot_timestamp", "id"))
        for key, static, rows in _joined(statics, dynamics):
            shop_id = key if kind == "shops" else _shop_of([*static, *rows])
            if shop_id is None:
                for role, lost in ((kind, static), (DYNAMIC[kind], rows)):
                    if lost:
                        where = f"{self._database.name(role)} {key}"
                        self._complain(role, where, "its shop is not told", len(lost))
                continue
            yield self._filled(kind, key, shop_id, static, rows)

    def _keyed(
        self, role: Role, kind: Kind, order: tuple[str, ...]
    ) -> Iterator[tuple[int, list[Row]]]:
        """Rows of a role, grouped by a valid id."""
        name = KEYS[kind]
        rows = self._database.rows(role, (name, *order), self._complain)
        for key, group in groupby(rows, key=lambda row: row.get(name)):
            same = list(group)
            if isinstance(key, int) and key > 0:
                yield key, same
            else:
                self._complain(
                    role, f"{self._database.name(role)}, {name} {key!r}", "no id", len(same)
                )

    def _filled(
        self, kind: Kind, key: int, shop_id: int, static: list[Row], rows: list[Row]
    ) -> OldSnapshots:
        """Turn an id's rows into full snapshots."""
        changing = {one.name for one in _FIELDS[kind] if one.dynamic}
        first, later = self._static(kind, static)
        told = {} if first is None else first[1]
        values = {name: value for name, value in told.items() if name in changing}
        fixed = {name: value for name, value in told.items() if name not in changing}
        looked = self._dated(DYNAMIC[kind], key, rows)
        dated = sorted(
            [(*pair, False) for pair in later] + [(*pair, True) for pair in looked],
            key=lambda one: one[0],
        )
        began = (first and first[0]) or (dated[0][0] if dated else None)
        found = OldSnapshots(key, shop_id, undated=began is None)
        began = began or self._written_at
        if first is not None:
            found.static.append((began, fixed))
        for snapshot, changed, is_dynamic in dated:
            newly = {name: value for name, value in changed.items() if name in changing}
            own = first and first[0]
            if own and own < snapshot and not found.dynamic and _differs(values, newly):
                _add_dynamic(found, own, values)  # or the first values would be lost
            newer = {**fixed, **{n: v for n, v in changed.items() if n not in changing}}
            _add_static(found, snapshot, newer, is_new=newer != fixed)
            fixed, values = newer, {**values, **newly}
            if is_dynamic or newly:
                _add_dynamic(found, snapshot, values)
        if not found.dynamic and values:
            found.dynamic.append((began, values))
        return found

    def _static(
        self, kind: Kind, rows: list[Row]
    ) -> tuple[tuple[int | None, Row] | None, list[tuple[int, Row]]]:
        """The first static row with its time, and those that were written later, by time.

        Rows without a time fill what the first leaves out. A row of the time of the first is the
        same row, kept in two tables.
        """
        naming = self._naming[kind]
        told = [(as_time(row.get("snapshot_timestamp")), naming.read(row)) for row in rows]
        dated = sorted(
            ((time, row) for time, row in told if time is not None), key=lambda pair: pair[0]
        )
        began = dated[0][0] if dated else None
        first: Row = {}
        for _, row in [pair for pair in told if pair[0] is None or pair[0] == began]:
            first = {**row, **first}
        return (began, first) if told else None, [pair for pair in dated if pair[0] != began]

    def _dated(self, role: Role, key: int, rows: list[Row]) -> list[tuple[int, Row]]:
        naming, dated = self._naming[role], []
        for row in rows:
            snapshot = as_time(row.get("snapshot_timestamp"))
            if snapshot is None:
                given = as_json(row.get("snapshot_timestamp"))
                where = f"{self._database.name(role)} {key}"
                self._complain(role, where, f"snapshot_timestamp is no time: {given}", 1)
            else:
                dated.append((snapshot, naming.read(row)))
        return dated

    # -- reviews, states -----------------------------------------------------------------------

    def reviews(self) -> Iterator[tuple[int, Object]]:
        """Every review with its snapshot time."""
        naming = self._naming["reviews"]
        for row in self._database.rows("reviews", (), self._complain):
            review = naming.read(row)
            if as_id(review.get("shop_id")) is None:
                self._complain("reviews", f"reviews {row.get('id', '')}", "no shop_id", 1)
                continue
            snapshot = as_time(row.get("snapshot_timestamp"))
            created = as_time(review.get("create_timestamp"))
            yield snapshot or created or self._written_at, review

    def shop_state(self, shop: OldSnapshots, *, reread_reviews: bool) -> OldShopState | None:
        """How far the older tool was with a shop; None where it never finished it.

        The tool noted a shop as synced also where its listings had failed: one that has active
        listings, by its own word, of which none was collected is to be synced anew.
        """
        if not shop.dynamic:
            return None
        newest, values = shop.dynamic[-1]
        last = self._syncs.synced(shop.key, newest)
        none_came = shop.key not in self._shops_with_listings
        if last is None or (none_came and values.get("listing_active_count") != 0):
            return None
        return OldShopState(
            shop.key,
            first_sync=min(shop.dynamic[0][0], last),
            last_sync=last,
            last_static=shop.static[-1][0] if shop.static else 0,
            signals=review_signals(values),
            walked=not reread_reviews,
            watermark=None if reread_reviews else self._syncs.reviewed(shop.key),
        )


def _differs(values: Row, newly: Row) -> bool:
    return any(values.get(name, value) != value for name, value in newly.items())


def _add_static(found: OldSnapshots, snapshot: int, fixed: Row, *, is_new: bool) -> None:
    if not is_new:
        return
    if found.static and found.static[-1][0] >= snapshot:
        # Of the static row's own time: together they are what was known then.
        found.static[-1] = (found.static[-1][0], fixed)
    else:
        found.static.append((snapshot, fixed))


def _add_dynamic(found: OldSnapshots, snapshot: int, values: Row) -> None:
    if found.dynamic and found.dynamic[-1][0] == snapshot:
        found.dynamic[-1] = (snapshot, values)
    else:
        found.dynamic.append((snapshot, values))


_Keyed = Iterator[tuple[int, list[Row]]]


def _joined(statics: _Keyed, dynamics: _Keyed) -> Iterator[tuple[int, list[Row], list[Row]]]:
    """Merge two streams that are sorted by id."""
    static, dynamic = next(statics, None), next(dynamics, None)
    while static is not None or dynamic is not None:
        if dynamic is None or (static is not None and static[0] < dynamic[0]):
            assert static is not None
            yield static[0], static[1], []
            static = next(statics, None)
        elif static is None or dynamic[0] < static[0]:
            yield dynamic[0], [], dynamic[1]
            dynamic = next(dynamics, None)
        else:
            yield static[0], static[1], dynamic[1]
            static, dynamic = next(statics, None), next(dynamics, None)


def _shop_of(rows: list[Row]) -> int | None:
    return next((shop for row in rows if (shop := as_id(row.get("shop_id"))) is not None), None)


class _Stamps:
    """Times by shop out of `sync_state`, under whichever key they stand there."""

    def __init__(self, state: dict[str, Any], newest_reviews: dict[int, int]) -> None:
        self._synced: dict[int, int] | None = None
        self._reviewed = newest_reviews
        for key, value in state.items():
            if not isinstance(value, dict):
                continue
            times = {
                shop_id: time
                for shop, told in value.items()
                if (shop_id := as_id(shop)) and (time := as_time(_time_in(told)))
            }
            if "review" in key:
                # What is noted but not there was not kept: the rows tell the truth.
                self._reviewed = {
                    shop: min(times.get(shop, time), time) for shop, time in newest_reviews.items()
                }
            elif "shop" in key or "sync" in key:
                self._synced = {**(self._synced or {}), **times}

    def synced(self, shop_id: int, newest: int) -> int | None:
        """When a shop was last synced; its newest row tells where the tool kept no list."""
        return newest if self._synced is None else self._synced.get(shop_id)

    def reviewed(self, shop_id: int) -> int | None:
        """The newest review that was collected of a shop."""
        return self._reviewed.get(shop_id)


def _time_in(told: object) -> object:
    if not isinstance(told, dict):
        return told
    names = ("last_sync", "synced_at", "timestamp", "snapshot_timestamp")
    return next((told[name] for name in names if name in told), None)
