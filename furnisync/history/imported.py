"""Adds what an older tool collected to the history, as if it had always been here.

Rows keep the times at which they were collected. Nothing that is here already changes, so that
a second import adds nothing, and what our own sync saw always wins.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from furnisync.history.fields.selection import Selection
from furnisync.history.fields.values import Converter, Object, Oddity, Value, as_id
from furnisync.history.rows import append_oddities, insert_rows

SnapshotKind = Literal["shops", "listings"]
_KEYS: Final = {"shops": "shop_id", "listings": "listing_id"}


@dataclass
class ImportedSnapshots:
    """All that was collected of one shop or listing.

    Attributes:
        shop_id: of the listing's shop; of the shop itself if it is one.
        static: (snapshot_timestamp, values as the API names them), when they changed.
        dynamic: the same for each snapshot, complete.
        undated: the static row's time is a guess: it is not added beside another static row.
    """

    key: int
    shop_id: int
    static: list[tuple[int, Object]] = field(default_factory=list)
    dynamic: list[tuple[int, Object]] = field(default_factory=list)
    undated: bool = False


class ImportedShopState(msgspec.Struct, frozen=True):
    """How far the older tool was with a shop; times in unix seconds.

    Attributes:
        signals: of its newest values, as `arrivals.review_signals` makes them.
        walked: its reviews were collected then.
        watermark: all reviews up to that second were collected; None: there was none.
    """

    shop_id: int
    first_sync: int
    last_sync: int
    last_static: int
    signals: str | None
    walked: bool
    watermark: int | None


def import_snapshots(
    connection: sqlite3.Connection,
    selection: Selection,
    kind: SnapshotKind,
    imported: Iterable[ImportedSnapshots],
) -> tuple[int, int]:
    """Append the rows of shops or listings, inside a transaction.

    Returns:
        how many static and how many dynamic rows were new.
    """
    converters = {
        "shops": (selection.shop_static, selection.shop_dynamic),
        "listings": (selection.listing_static, selection.listing_dynamic),
    }
    static, dynamic = converters[kind]
    static_rows, dynamic_rows = _Rows(kind, kind, static), _Rows(f"{kind}_dynamic", kind, dynamic)
    for one in imported:
        if not (one.undated and _has_static(connection, kind, one.key)):
            shop = (one.shop_id,) if kind == "listings" else ()
            for snapshot, values in one.static:
                static_rows.add((one.key, snapshot, *shop), values)
        for snapshot, values in one.dynamic:
            dynamic_rows.add((one.key, snapshot), values)
    return static_rows.insert(connection), dynamic_rows.insert(connection)


class _Rows:
    """New rows of a table; those with oddities are added singly, to note them only once."""

    def __init__(self, table: str, kind: SnapshotKind, converter: Converter) -> None:
        self._table = table
        self._kind = kind
        self._converter = converter
        self._plain: list[Sequence[Value]] = []
        self._odd: list[tuple[list[Value], list[Oddity]]] = []

    def add(self, fixed: tuple[int, ...], values: Object) -> None:
        oddities: list[Oddity] = []
        row = [*fixed, *self._converter.values(values, oddities)]
        if oddities:
            self._odd.append((row, oddities))
        else:
            self._plain.append(row)

    def insert(self, connection: sqlite3.Connection) -> int:
        columns = self._converter.columns
        new = insert_rows(connection, self._table, columns, self._plain)
        for row, oddities in self._odd:
            if insert_rows(connection, self._table, columns, [row]):
                new += 1
                snapshot = as_id(row[1]) or 0
                append_oddities(connection, self._kind, snapshot, [(as_id(row[0]), oddities)])
        return new


def _has_static(connection: sqlite3.Connection, kind: SnapshotKind, key: int) -> bool:
    sql = f"SELECT 1 FROM {kind} WHERE {_KEYS[kind]} = ?"
    return connection.execute(sql, (key,)).fetchone() is not None


def import_shop_states(connection: sqlite3.Connection, states: Iterable[ImportedShopState]) -> int:
    """Note when shops were synced, so that they are due when the older tool would have synced them.

    A shop that we synced later ourselves stays as it is; so do reviews that we began to walk over.

    Returns:
        how many shops were noted.
    """
    return connection.executemany(
        """INSERT INTO sync_state (shop_id, status, first_sync, last_sync, last_static, signals,
            signals_walked, reviews_watermark, reviews_walked)
        VALUES (:shop_id, 'ok', :first_sync, :last_sync, :last_static, :signals,
            iif(:walked, :signals, NULL), :watermark, iif(:walked, :last_sync, NULL))
        ON CONFLICT DO UPDATE SET status = 'ok',
            first_sync = min(ifnull(first_sync, excluded.first_sync), excluded.first_sync),
            last_sync = excluded.last_sync,
            last_static = max(ifnull(last_static, 0), excluded.last_static),
            signals = excluded.signals,
            signals_walked = iif(reviews_walked IS NULL AND walk_started IS NULL,
                excluded.signals_walked, signals_walked),
            reviews_watermark = iif(reviews_walked IS NULL AND walk_started IS NULL,
                excluded.reviews_watermark, reviews_watermark),
            reviews_walked = iif(reviews_walked IS NULL AND walk_started IS NULL,
                excluded.reviews_walked, reviews_walked)
        WHERE status != 'gone' AND ifnull(last_sync, 0) < excluded.last_sync""",
        [msgspec.structs.asdict(one) for one in states],
    ).rowcount
