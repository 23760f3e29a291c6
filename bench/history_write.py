"""How many rows a second the history writes, against a bare `executemany` of the same rows.

All sides write into a database that `open_history` made (same tables, pragmas, indexes), on the
same disk, and end with the same rows in `shops`, `shops_dynamic`, `listings`, `listings_dynamic`.
The bare sides commit once a shop, the least that "a shop's rows appear together" allows, and so
do the appends alone. Ours as a whole waits for the commit of every answer of the API (list pages
and batches), since a spent call is never lost; answers that wait at the same time share a commit.
Each begins with an empty log and ends when all its rows are in the main file.

| side           | begins with                   | does                                            |
| -------------- | ----------------------------- | ----------------------------------------------- |
| bare           | JSON objects, decoded         | a tuple of `get`s an object, `executemany`      |
| bare, ready    | tuples of SQL values          | `executemany`, nothing else                     |
| ours           | JSON objects, decoded         | takes every answer as the collector must, with  |
|                |                               | all checks; appends complete shops by the rules |
| ours, appends  | complete shops in the staging | `append_shop_sync` alone                        |

"first" is a sync of new shops (static and dynamic rows), "second" one two weeks later (dynamic
rows).
Medians of `--rounds`, the sides taking turns.

    python bench/history_write.py [--shops 300] [--rounds 5] [--json]
"""

import argparse
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.rows import Row
from furnisync.history.arrivals import sort_batch, stage_arrival
from furnisync.history.claims import BatchClaim, Claims
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history, stored_columns
from furnisync.history.snapshots import append_shop_sync, take_batch
from furnisync.history.staging import begin_shop_sync, finished_syncs, stage_list_page
from furnisync.sqlite.database import transaction
from furnisync.sqlite.writer import Writer

Object = dict[str, Any]
Values = tuple[Any, ...]
Shops = list[list[Object]]
T0 = 1_780_000_000
DAY = 86_400
WANTED = 0.6
IN_FLIGHT = 16
"""Calls at once, as in fast mode."""
WORDS = [
    "oak",
    "walnut",
    "table",
    "chair",
    "desk",
    "handmade",
    "rustic",
    "modern",
    "solid",
    "wood",
    "steel",
    "leg",
    "live",
    "edge",
]
TABLES = ("shops", "shops_dynamic", "listings", "listings_dynamic")


def make_listing(chance: random.Random, listing_id: int, shop: Object) -> Object:
    """A listing of ordinary size: 100 letters of title, some 1,200 of description."""

    def say(count: int) -> str:
        return " ".join(chance.choices(WORDS, k=count))

    return {
        "listing_id": listing_id, "user_id": 9, "shop_id": shop["shop_id"],
        "title": say(16), "description": say(200), "state": "active",
        "creation_timestamp": T0 - 5000, "created_timestamp": T0 - 5000,
        "ending_timestamp": T0 + 9_000_000, "quantity": chance.randrange(1, 99),
        "url": f"https://www.etsy.com/listing/{listing_id}/{say(4).replace(' ', '-')}",
        "num_favorers": chance.randrange(5000), "is_customizable": True,
        "is_personalizable": False, "listing_type": "physical",
        "tags": [say(2) for _ in range(13)], "materials": [say(1) for _ in range(5)],
        "processing_min": 3, "processing_max": 10, "who_made": "i_did",
        "when_made": "made_to_order", "item_weight": 12.5, "item_weight_unit": "kg",
        "item_length": 120.0, "item_width": 60.5, "item_height": None,
        "item_dimensions_unit": "cm", "should_auto_renew": True, "language": "en-US",
        "price": {"amount": chance.randrange(900, 900_000), "divisor": 100, "currency_code": "USD"},
        "taxonomy_id": 12371, "production_partners": [], "views": chance.randrange(100_000),
        "shop": shop,
    }  # fmt: skip


def make_shops(count: int) -> list[list[Object]]:
    """Shops of Pareto size, each with its listings."""
    chance = random.Random(20)
    made, listing_id = [], 1_000_000_000
    for number in range(count):
        size = min(1000, int(chance.paretovariate(0.9) * 8))
        shop = {
            "shop_id": 10_000_000 + number, "create_date": T0 - 10**8, "update_date": T0 - 9,
            "listing_active_count": size, "accepts_custom_requests": True,
            "url": f"https://www.etsy.com/shop/Shop{number}", "num_favorers": 100,
            "is_shop_us_based": True, "transaction_sold_count": 1000,
            "shipping_from_country_iso": "US", "shop_location_country_iso": "US",
            "review_average": 4.9, "review_count": 312,
        }  # fmt: skip
        made.append([make_listing(chance, listing_id := listing_id + 7, shop) for _ in range(size)])
    return made


def stage_all(
    connection: sqlite3.Connection,
    selection: Selection,
    claim: BatchClaim,
    answer: list[Object],
    *,
    now_s: float,
) -> None:
    """`take_batch`, but what an answer completes is left in the staging too."""
    for arrival in sort_batch(connection, selection, claim, answer, now_s=now_s):
        stage_arrival(connection, selection, arrival)


def collect(
    path: Path,
    selection: Selection,
    shops: Shops,
    now: int,
    take: Callable[..., object],
) -> None:
    """Play the collector with `IN_FLIGHT` calls at once; `take` stores an answer.

    Each answer waits for its own commit, as in `collect.collector`; those that wait at the same
    time are committed together.
    """
    everything = {item["listing_id"]: item for listings in shops for item in listings}
    claims = Claims()

    def stage(connection: sqlite3.Connection, listings: list[Object]) -> None:
        ids = [item["listing_id"] for item in listings]
        begin_shop_sync(connection, listings[0]["shop_id"], now)
        stage_list_page(connection, listings[0]["shop_id"], ids, counted=len(ids), next_offset=None)

    def store(connection: sqlite3.Connection, claim: BatchClaim) -> None:
        take(connection, selection, claim, [everything[i] for i in claim.ids], now_s=now)

    def claim_some(connection: sqlite3.Connection, *, full_only: bool) -> list[BatchClaim]:
        claimed = (claims.take(connection, full_only=full_only) for _ in range(IN_FLIGHT))
        return [claim for claim in claimed if claim is not None]

    writer = Writer(open_history(path, selection), "bench")
    for some in [*(shops[at : at + IN_FLIGHT] for at in range(0, len(shops), IN_FLIGHT)), []]:
        for staged in [writer.submit(stage, listings) for listings in some]:
            staged.result()
        while found := writer.submit(claim_some, full_only=bool(some)).result():
            for stored in [writer.submit(store, claim) for claim in found]:
                stored.result()
            for claim in found:
                claims.give_back(claim)
    writer.close()


def append_all(connection: sqlite3.Connection) -> None:
    """What `collect` has left in the staging, one shop, one commit."""
    for state in finished_syncs(connection):
        with transaction(connection):
            append_shop_sync(connection, state.shop_id)


def plain_value(value: object) -> object:
    """What a plain script would do for arrays."""
    return json.dumps(value) if type(value) is list else value


def plain_row(sent: Object, key: str, now: int, names: list[str]) -> Values:
    """A row as a plain script would make it of an object."""
    return (sent[key], now, *[plain_value(sent.get(name)) for name in names])


def price_row(sent: Object, now: int, names: list[str]) -> Values:
    """The same for `listings_dynamic`, whose last columns but one are the price's."""
    price = sent["price"]
    money = {f"price_{part}": price[part] for part in ("amount", "divisor", "currency_code")}
    values = [money[name] if name in money else sent.get(name) for name in names]
    return (sent["listing_id"], now, *values)


class Bare:
    """The plain script: an INSERT for each table, rows of the columns that the history has."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.names = {table: list(stored_columns(connection, table)) for table in TABLES}
        self.sql = {
            table: f"INSERT INTO {table} ({', '.join(names)})"
            f" VALUES ({', '.join('?' * len(names))})"
            for table, names in self.names.items()
        }

    def rows(self, listings: list[Object], now: int, *, static: bool) -> dict[str, list[Values]]:
        """Rows of some listings and, for the first of a shop, of the shop."""
        names = {table: columns[2:] for table, columns in self.names.items()}
        shops = [item["shop"] for item in listings if item.get("first")]
        found = {
            "shops_dynamic": [plain_row(s, "shop_id", now, names["shops_dynamic"]) for s in shops],
            "listings_dynamic": [price_row(i, now, names["listings_dynamic"]) for i in listings],
        }
        if static:
            found["shops"] = [plain_row(s, "shop_id", now, names["shops"]) for s in shops]
            found["listings"] = [
                plain_row(i, "listing_id", now, names["listings"]) for i in listings
            ]
        return found

    def write(self, found: dict[str, list[Values]]) -> None:
        """One shop, one commit."""
        with transaction(self.connection):
            for table, rows in found.items():
                self.connection.executemany(self.sql[table], rows)


def compare(folder: Path, shops: Shops, round_no: int) -> dict[str, float]:
    """One round of all sides: a first sync, then a second one two weeks later."""
    selection = Selection.of()
    sides = {name: open_history(folder / f"{name}.db", selection) for name in ("a", "b", "c", "d")}
    plain, ready = Bare(sides["a"]), Bare(sides["b"])
    found: dict[str, float] = {}
    for name, now in (("first", T0), ("second", T0 + 15 * DAY)):
        static = name == "first"
        prepared = [ready.rows(listings, now, static=static) for listings in shops]
        count = sum(len(rows) for answer in prepared for rows in answer.values())

        def bare(now: int = now, *, static: bool = static) -> None:
            for listings in shops:
                plain.write(plain.rows(listings, now, static=static))

        def bare_ready(prepared: list[dict[str, list[Values]]] = prepared) -> None:
            for rows in prepared:
                ready.write(rows)

        def ours(now: int = now) -> None:
            collect(folder / "c.db", selection, shops, now, take_batch)

        def ours_appends() -> None:
            append_all(sides["d"])

        collect(folder / "d.db", selection, shops, now, stage_all)
        jobs: list[tuple[str, str, Callable[[], None]]] = [
            ("bare", "a", bare), ("bare, ready", "b", bare_ready), ("ours", "c", ours),
            ("ours, appends", "d", ours_appends),
        ]  # fmt: skip
        for label, side, job in jobs[round_no % 4 :] + jobs[: round_no % 4]:
            empty_log(sides[side])
            began = time.perf_counter()
            job()
            empty_log(sides[side])
            found[f"{name}, {label}"] = count / (time.perf_counter() - began)
    check(sides)
    for connection in sides.values():
        connection.close()
    return found


def empty_log(connection: sqlite3.Connection) -> None:
    """Bring all that was committed into the main file: each side begins and ends so."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def check(sides: dict[str, sqlite3.Connection]) -> None:
    """All sides hold the same number of rows."""
    counts = {
        tuple(c.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
        for c in sides.values()
    }
    assert len(counts) == 1, counts


def read_shops(sent: bytes) -> Shops:
    """Decode what was sent; the first listing of each shop is marked for the bare side."""
    shops: Shops = msgspec.json.decode(sent)
    for listings in shops:
        listings[0]["first"] = True
    return shops


def measure(shops: int, rounds: int) -> dict[str, float]:
    """Medians of all sides, rows a second, and the ratios."""
    sent = msgspec.json.encode(make_shops(shops))
    found = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            found.append(compare(Path(folder), read_shops(sent), number))
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    for name in ("first", "second"):
        medians[f"{name}, ours / bare"] = medians[f"{name}, ours"] / medians[f"{name}, bare"]
        ready = medians[f"{name}, bare, ready"]
        medians[f"{name}, ours / bare, ready"] = medians[f"{name}, ours"] / ready
        medians[f"{name}, ours, appends / bare, ready"] = medians[f"{name}, ours, appends"] / ready
    return medians


def run(*, quick: bool) -> list[Row]:
    """The ratios for the table of `python -m bench`."""
    medians = measure(*(4, 1) if quick else (300, 5))
    rows = []
    for name in ("first", "second"):
        rows += [
            Row(what=f"{name} sync: appends by `executemany`", unit="%", at_least=WANTED,
                value=medians[f"{name}, ours, appends / bare, ready"],
                how=f"{medians[f'{name}, ours, appends']:,.0f} rows/s out of the staging"),
            Row(what=f"{name} sync: answers to rows, each kept from the call on, by a plain script",
                unit="%", at_least=WANTED, value=medians[f"{name}, ours / bare"],
                how=f"{medians[f'{name}, ours']:,.0f} rows/s; 90 calls a second bring 9,000"),
        ]  # fmt: skip
    return rows


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shops", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    medians = measure(options.shops, options.rounds)
    if options.json:
        print(json.dumps(medians, indent=1))
        return
    for name, value in sorted(medians.items()):
        print(f"{name:36} {value:10.2f}" if "/" in name else f"{name:36} {value:10,.0f} rows/s")


if __name__ == "__main__":
    main()
