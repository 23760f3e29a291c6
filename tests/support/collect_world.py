"""A home, its data sync as real processes, and what the sandbox's truth says must lie there.

The expected rows are made here from the API's objects by the tables of the user's document, without
the package's own tables of fields, so that a mistake there cannot hide.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes import DEADLINE_S, FREE, Ended, ProcessHome, Row, Run

from furnisync.catalog.listings import Listed, add_listed
from furnisync.catalog.schema import open_catalog
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.database import transaction

DAY = 86_400
SMALL = {"shops": 20, "listings": 260, "images_mean": 1, "image_bytes": 2000, "pictures": 2}
FAST = {"fast_per_second": 100_000.0}
TABLES = ("shops", "shops_dynamic", "listings", "listings_dynamic", "reviews")

LIST_CALL = "shops/{shop_id}/listings/active"
REVIEW_CALL = "shops/{shop_id}/reviews"
BATCH_CALL = "listings/batch"
SHOP_CALL = "shops/{shop_id}"

SHOP_STATIC = {
    "create_date": "int",
    "accepts_custom_requests": "bool",
    "url": "text",
    "is_shop_us_based": "bool",
    "shipping_from_country_iso": "text",
    "shop_location_country_iso": "text",
}
SHOP_DYNAMIC = {
    "update_date": "int",
    "listing_active_count": "int",
    "num_favorers": "int",
    "transaction_sold_count": "int",
    "review_average": "float",
    "review_count": "int",
}
LISTING_STATIC = {
    "shop_id": "int",
    "title": "text",
    "description": "text",
    "creation_timestamp": "int",
    "url": "text",
    "is_customizable": "bool",
    "is_personalizable": "bool",
    "listing_type": "text",
    "tags": "json",
    "materials": "json",
    "processing_min": "int",
    "processing_max": "int",
    "who_made": "text",
    "when_made": "text",
    "item_weight": "float",
    "item_weight_unit": "text",
    "item_length": "float",
    "item_width": "float",
    "item_height": "float",
    "item_dimensions_unit": "text",
    "should_auto_renew": "bool",
    "language": "text",
    "taxonomy_id": "int",
    "production_partners": "json",
}
LISTING_DYNAMIC = {
    "state": "text",
    "ending_timestamp": "int",
    "quantity": "int",
    "num_favorers": "int",
    "price": "money",
    "views": "int",
}
REVIEW = {
    "shop_id": "int",
    "listing_id": "int",
    "transaction_id": "int",
    "buyer_user_id": "int",
    "rating": "int",
    "review": "text",
    "language": "text",
    "create_timestamp": "int",
}
COLUMNS = {
    "shops": SHOP_STATIC,
    "shops_dynamic": SHOP_DYNAMIC,
    "listings": LISTING_STATIC,
    "listings_dynamic": LISTING_DYNAMIC,
}


# -- values ------------------------------------------------------------------------------------


def names(fields: Mapping[str, str]) -> list[str]:
    """Columns of fields."""
    money = ("amount", "divisor", "currency_code")
    return [
        column
        for name, kind in fields.items()
        for column in ([f"{name}_{part}" for part in money] if kind == "money" else [name])
    ]


def values(sent: Mapping[str, Any], fields: Mapping[str, str]) -> Row:
    """What the columns must hold: (type, value), so that 0, 0.0, false and null all differ."""
    row: list[Any] = []
    for name, kind in fields.items():
        value = sent.get(name)
        if kind == "money":
            price = value or {}
            row += [price.get("amount"), price.get("divisor"), price.get("currency_code")]
        elif value is None:
            row.append(None)
        elif kind == "json":
            row.append(json.dumps(value, sort_keys=True))
        else:
            row.append({"int": int, "bool": int, "float": float, "text": str}[kind](value))
    return tuple((type(value).__name__, value) for value in row)


def stored(row: Iterable[Any], fields: Mapping[str, str]) -> Row:
    """The same of a row that was read, JSON made comparable."""
    kinds = [kind for kind in fields.values() for _ in range(3 if kind == "money" else 1)]
    read = [
        json.dumps(json.loads(value), sort_keys=True) if kind == "json" and value else value
        for value, kind in zip(row, kinds, strict=True)
    ]
    return tuple((type(value).__name__, value) for value in read)


NOTHING = values({}, LISTING_DYNAMIC)
GONE = values({"state": "gone"}, LISTING_DYNAMIC)


# -- a home ------------------------------------------------------------------------------------


def small_sandbox(**options: object) -> SandboxProcess:
    return SandboxProcess(**{**SMALL, **FREE, **options})


class Home(ProcessHome):
    """A home of data sync."""

    job = "data"
    database = "etsy_data.db"

    def configure(self, **sections: dict[str, Any]) -> None:
        super().configure(**{**sections, "quota": {**FAST, **sections.get("quota", {})}})

    def copy(self, path: Path) -> Home:
        """The same home once more, at this moment of its life."""
        shutil.copytree(self.path, path)
        other = Home.__new__(Home)
        other.path, other.sandbox, other.env, other._runs = path, self.sandbox, self.env, 0
        return other

    @property
    def history(self) -> Path:
        return self.path / "etsy_data.db"

    # -- processes -----------------------------------------------------------------------------

    def sync(self, *arguments: str, timeout_s: float = DEADLINE_S) -> Ended:
        """Run data sync to its good end."""
        ended = self.start(*(arguments or ("--fast",))).wait(timeout_s)
        assert ended.status == 0, ended.out
        return ended

    def script(self, *arguments: str) -> Run:
        """`sync_data.py`, as the user calls it."""
        return self.start(*arguments, command=("sync_data.py",))

    def images(self, *arguments: str) -> Run:
        return self.start(*arguments, command=("-m", "furnisync", "images"))

    # -- what lies there -----------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        return {table: self.number(f"SELECT count(*) FROM {table}") for table in TABLES}


def seed_catalog(home: Home, sandbox: SandboxProcess, *, name: str = "catalog.db") -> None:
    """What image sync would know: all active furniture, also of shops that have turned odd since.

    Shops without any furniture listing are known too, as ended ones leave them.
    """
    truth = sandbox.truth_listings()
    listed = [
        Listed(row["listing_id"], row["shop_id"], row["taxonomy_id"], None, row["created"])
        for row in truth
        if row["is_furniture"] and row["state"] == "active"
    ]
    connection = open_catalog(home.path / name)
    try:
        with transaction(connection):
            add_listed(connection, listed, int(home.now()))
            connection.executemany(
                "INSERT INTO shops (shop_id, first_seen) VALUES (?, 1) ON CONFLICT DO NOTHING",
                ((shop["shop_id"],) for shop in sandbox.truth_shops()),
            )
    finally:
        connection.close()


def later(home: Home, sandbox: SandboxProcess, days: float) -> None:
    """Let time pass for both."""
    assert home.sandbox is sandbox
    home.later(days)


@contextmanager
def no_calls(sandbox: SandboxProcess):
    """Nothing is asked inside."""
    sandbox.reset_asked()
    yield
    assert sandbox.asked()["total"] == 0, sandbox.asked()


def calls_of(sandbox: SandboxProcess) -> dict[str, int]:
    """Calls by name since the last reset."""
    return {name: sum(found.values()) for name, found in sandbox.asked()["calls"].items()}


# -- the truth, and what the rules make of it ---------------------------------------------------


class Truth:
    """The world at one time."""

    def __init__(self, sandbox: SandboxProcess) -> None:
        self.shops = {row["shop_id"]: row for row in sandbox.truth_shops()}
        self.listings = {row["listing_id"]: row for row in sandbox.truth_listings(full=True)}
        self.reviews = {shop_id: sandbox.truth_reviews(shop_id) for shop_id in self.shops}

    def of_shop(self, shop_id: int) -> list[dict[str, Any]]:
        return [row for row in self.listings.values() if row["shop_id"] == shop_id]


@dataclass
class Expected:
    """The history as the rules want it; `sync` adds what a sync of some shops must append.

    It takes the time of each shop's sync from the shop's own row, and everything else from the
    truth.
    """

    known: dict[int, set[int]] = field(default_factory=dict)
    """Furniture listings that image sync knows as active, by shop."""
    rows: dict[str, dict[tuple[int, int], Row]] = field(
        default_factory=lambda: {table: {} for table in COLUMNS}
    )
    state: dict[int, str | None] = field(default_factory=dict)
    shop_of: dict[int, int] = field(default_factory=dict)

    def sync(self, home: Home, truth: Truth, shops: Iterable[int], *, now_s: float) -> None:
        times = dict(
            home.rows("SELECT shop_id, max(snapshot_timestamp) FROM shops_dynamic GROUP BY 1")
        )
        for shop_id in shops:
            if truth.shops[shop_id]["gone"]:
                self._end_shop(home, shop_id)
                continue
            snapshot = times[shop_id]
            assert abs(snapshot - now_s) < 600, f"shop {shop_id} was synced at {snapshot}"
            self._sync_shop(truth, shop_id, snapshot)

    def _sync_shop(self, truth: Truth, shop_id: int, snapshot: int) -> None:
        api = truth.shops[shop_id]["api"]
        self._put("shops_dynamic", shop_id, snapshot, values(api, SHOP_DYNAMIC))
        self._put_static("shops", shop_id, snapshot, values(api, SHOP_STATIC))
        listed = {row["listing_id"] for row in truth.of_shop(shop_id) if row["findable"]}
        asked = listed | set(self._live(shop_id))
        if not listed:
            asked |= self.known.get(shop_id, set())
        for listing_id in asked:
            self._put_listing(truth.listings[listing_id], snapshot)

    def _put_listing(self, row: dict[str, Any], snapshot: int) -> None:
        listing_id = row["listing_id"]
        if not row["visible"]:
            if self.state.get(listing_id, "gone") != "gone":
                self._put_dynamic(listing_id, snapshot, GONE, "gone")
            return
        state = row["api"]["state"]
        if state != "active" and self.state.get(listing_id) == state:
            return
        self.shop_of[listing_id] = row["shop_id"]
        dynamic = values(row["api"], LISTING_DYNAMIC)
        self._put_dynamic(listing_id, snapshot, dynamic, state)
        self._put_static("listings", listing_id, snapshot, values(row["api"], LISTING_STATIC))

    def _end_shop(self, home: Home, shop_id: int) -> None:
        live = self._live(shop_id)
        for listing_id in live:
            found = home.rows(
                "SELECT max(snapshot_timestamp) FROM listings_dynamic WHERE listing_id = ?",
                listing_id,
            )
            self._put_dynamic(listing_id, found[0][0], GONE, "gone")

    def _live(self, shop_id: int) -> list[int]:
        return [i for i, of in self.shop_of.items() if of == shop_id and self.state[i] == "active"]

    def _put(self, table: str, key: int, snapshot: int, row: Row) -> None:
        assert (key, snapshot) not in self.rows[table], f"{table} {key} twice at {snapshot}"
        self.rows[table][key, snapshot] = row

    def _put_dynamic(self, listing_id: int, snapshot: int, row: Row, state: str | None) -> None:
        self._put("listings_dynamic", listing_id, snapshot, row)
        self.state[listing_id] = state

    def _put_static(self, table: str, key: int, snapshot: int, row: Row) -> None:
        times = [time for (other, time) in self.rows[table] if other == key]
        if not times or snapshot - max(times) > 182 * DAY:
            self._put(table, key, snapshot, row)

    # -- holding the history against it --------------------------------------------------------

    def check(self, home: Home) -> None:
        """All rows are there, and no other."""
        for table, fields in COLUMNS.items():
            found = read_table(home, table)
            missing = self.rows[table].keys() - found.keys()
            extra = found.keys() - self.rows[table].keys()
            assert not missing, f"{table}: {len(missing)} rows are missing, as {min(missing)}"
            assert not extra, f"{table}: {len(extra)} rows too many, as {min(extra)}"
            for key, row in found.items():
                assert row == self.rows[table][key], (
                    f"{table} {key}:"
                    f" {[*zip(names(fields), row, self.rows[table][key], strict=True)]}"
                )


def read_table(home: Home, table: str) -> dict[tuple[int, int], Row]:
    """Rows of a snapshot table by (id, time)."""
    fields = COLUMNS[table]
    key = "shop_id" if table.startswith("shops") else "listing_id"
    columns = ", ".join(names(fields))
    rows = home.rows(f"SELECT {key}, snapshot_timestamp, {columns} FROM {table}")
    return {(row[0], row[1]): stored(row[2:], fields) for row in rows}


def read_reviews(home: Home) -> list[Row]:
    rows = home.rows(f"SELECT {', '.join(REVIEW)} FROM reviews")
    return sorted((stored(row, REVIEW) for row in rows), key=repr)


def true_reviews(truth: Truth, shops: Iterable[int]) -> list[Row]:
    """Reviews of the shops, without those that nothing tells apart."""
    rows = {values(one, REVIEW) for shop_id in shops for one in truth.reviews[shop_id]}
    return sorted(rows, key=repr)


def check_truth(home: Home, truth: Truth, *, known: Mapping[int, set[int]] | None = None) -> None:
    """A history of one sync of everything equals the truth."""
    alive = [shop_id for shop_id, shop in truth.shops.items() if not shop["gone"]]
    expected = Expected(known=dict(known or {}))
    expected.sync(home, truth, alive, now_s=home.now())
    expected.check(home)
    assert read_reviews(home) == true_reviews(truth, alive)


def check_truth_of_answers(
    home: Home, truth: Truth, log: list[dict[str, Any]], *, known: Mapping[int, set[int]]
) -> None:
    """The same where image sync's answers brought rows: each has the time of an answer.

    That is of its shop, or since a batch in the sandbox's log that names the listing, or since its
    shop's last sync, by which the shop is due again. No listing has two static rows, and none lacks
    a row.
    """
    alive = [shop_id for shop_id, shop in truth.shops.items() if not shop["gone"]]
    expected = Expected(known=dict(known))
    expected.sync(home, truth, alive, now_s=home.now())
    synced_at = dict(home.rows("SELECT shop_id, last_sync FROM sync_state"))
    named_at: dict[int, float] = {}
    for entry in log:
        if entry["call"] == "listings/batch":
            for listing_id in map(int, entry["query"]["listing_ids"].split(",")):
                named_at.setdefault(listing_id, entry["time"])
    for table in COLUMNS:
        found = read_table(home, table)
        wanted = {key: (time, row) for (key, time), row in expected.rows[table].items()}
        assert {key for key, _ in found} == wanted.keys(), table
        if table != "listings_dynamic":
            assert len(found) == len(wanted), f"{table}: rows that nobody needs"
        for (key, time), row in found.items():
            shop_time, expected_row = wanted[key]
            assert row == expected_row, (table, key)
            if time != shop_time:
                assert table.startswith("listings")
                since = min(named_at[key], synced_at[truth.listings[key]["shop_id"]])
                assert int(since) <= time <= home.now(), (table, key, time)


def known_furniture(truth: Truth) -> dict[int, set[int]]:
    """What `seed_catalog` tells, by shop."""
    found: dict[int, set[int]] = {}
    for row in truth.listings.values():
        if row["is_furniture"] and row["state"] == "active":
            found.setdefault(row["shop_id"], set()).add(row["listing_id"])
    return found


def content(home: Home) -> dict[str, list[Row]]:
    """All rows without their times, to compare two homes."""
    found = {
        table: sorted(((key[0], row) for key, row in read_table(home, table).items()), key=repr)
        for table in COLUMNS
    }
    found["reviews"] = read_reviews(home)
    found["sync_state"] = sorted(
        home.rows(
            "SELECT shop_id, status, furniture_listings, listings_active,"
            " listings_found, failures, signals, signals_walked, reviews_watermark,"
            " walk_started IS NULL, reviews_failures FROM sync_state"
        )
    )
    return found


def check_one_time_a_shop(home: Home) -> None:
    """Every listing row bears the time of a sync of its shop, of which it is a part."""
    loose = home.rows(
        """SELECT d.listing_id, d.snapshot_timestamp FROM listings_dynamic d
        JOIN (SELECT DISTINCT listing_id, shop_id FROM listings) l USING (listing_id)
        WHERE NOT EXISTS (SELECT 1 FROM shops_dynamic s WHERE s.shop_id = l.shop_id
            AND s.snapshot_timestamp = d.snapshot_timestamp) AND d.state IS NOT 'gone'"""
    )
    assert not loose, loose[:5]


@contextmanager
def ended_at_last(run: Run):
    """Whatever fails inside, the process does not outlive the test."""
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            run.kill()
