"""An older tool's tables become history, by the real command."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from old_world import OLD_TABLES, ROOT, NewHome, OldFolder

from furnisync.history.fields.selection import Selection
from furnisync.history.reviews import append_reviews
from furnisync.history.schema import open_history
from furnisync.sandbox.process import SandboxProcess

DAY = 86_400
T = 1_779_000_000


@pytest.fixture
def old(tmp_path):
    return OldFolder(tmp_path / "old")


@pytest.fixture
def home(tmp_path):
    return NewHome(tmp_path / "home")


def shop(shop_id, **more):
    return {"shop_id": shop_id, "snapshot_timestamp": T, "create_date": 5, "url": "u", **more}


def listing(listing_id, shop_id, **more):
    return {
        "listing_id": listing_id, "snapshot_timestamp": T, "shop_id": shop_id, "title": "Tisch 🪑",
        "tags": '["oak", "é"]', "price_amount": 1250, "price_divisor": 100,
        "price_currency": "EUR", "is_customizable": 0, **more,
    }  # fmt: skip


def review(shop_id, listing_id, created, **more):
    return {
        "snapshot_timestamp": T, "shop_id": shop_id, "listing_id": listing_id, "rating": 5,
        "buyer_user_id": 3, "review": "gut", "create_timestamp": created, **more,
    }  # fmt: skip


def state(key, value):
    return {"key": key, "value": json.dumps(value)}


def two_shops(old):
    old.tables(
        shops=[shop(9), shop(10)],
        shops_dynamic=[
            {"shop_id": 9, "snapshot_timestamp": T, "num_favorers": 5, "review_count": 2,
             "review_average": 4.5, "listing_active_count": 2, "accepts_custom_requests": 0},
            {"shop_id": 9, "snapshot_timestamp": T + 2 * DAY, "num_favorers": 0},
            {"shop_id": 9, "snapshot_timestamp": T + DAY, "accepts_custom_requests": 1},
            {"shop_id": 10, "snapshot_timestamp": T, "listing_active_count": 3},
        ],
        listings=[listing(100, 9), listing(101, 9)],
        listings_dynamic=[
            {"listing_id": 100, "snapshot_timestamp": T, "state": "active", "quantity": 3,
             "views": 0},
            {"listing_id": 100, "snapshot_timestamp": T + DAY, "views": 8},
            {"listing_id": 100, "snapshot_timestamp": T + DAY, "quantity": 1},
            {"listing_id": 100, "snapshot_timestamp": T + 2 * DAY, "state": "sold_out"},
        ],
        reviews=[review(9, 100, T - 50), review(9, 100, T - 50, buyer_user_id=None),
                 review(9, 101, T - 10, review=None)],
        sync_state=[
            state("last_shop_sync", {"9": T + 2 * DAY, "10": T + 2 * DAY, "11": T}),
            state("last_review_timestamps", {"9": T - 10, "10": T}),
            state("last_sync", T),
            {"key": "broken", "value": "{"},
        ],
    )  # fmt: skip


def test_null_meant_unchanged(old, home):
    two_shops(old)
    before = old.contents()
    home.take(old.path)
    assert old.contents() == before
    assert home.history(
        "SELECT snapshot_timestamp, state, quantity, views, price_amount, price_divisor,"
        " price_currency_code FROM listings_dynamic WHERE listing_id = 100 ORDER BY 1"
    ) == [
        (T, "active", 3, 0, 1250, 100, "EUR"),
        (T + DAY, "active", 1, 8, 1250, 100, "EUR"),
        (T + 2 * DAY, "sold_out", 1, 8, 1250, 100, "EUR"),
    ]
    # Never looked at again, but its price was seen.
    assert home.history(
        "SELECT snapshot_timestamp, state, price_amount FROM listings_dynamic"
        " WHERE listing_id = 101"
    ) == [(T, None, 1250)]
    assert home.history(
        "SELECT snapshot_timestamp, num_favorers, review_count FROM shops_dynamic"
        " WHERE shop_id = 9 ORDER BY 1"
    ) == [(T, 5, 2), (T + DAY, 5, 2), (T + 2 * DAY, 0, 2)]
    # What is dynamic there and static here gets a static row where it changed.
    assert home.history(
        "SELECT snapshot_timestamp, accepts_custom_requests, url FROM shops WHERE shop_id = 9"
        " ORDER BY 1"
    ) == [(T, 0, "u"), (T + DAY, 1, "u")]
    assert home.history(
        "SELECT title, tags, is_customizable, description FROM listings WHERE listing_id = 100"
    ) == [("Tisch 🪑", '["oak","é"]', 0, None)]
    assert home.history(
        "SELECT title, state, price_amount FROM listings_latest WHERE listing_id = 100"
    ) == [("Tisch 🪑", "sold_out", 1250)]
    assert home.history("SELECT count(*) FROM oddities") == [(0,)]


def test_what_was_synced_is_not_due(old, home):
    two_shops(old)
    home.take(old.path)
    assert home.history(
        "SELECT shop_id, status, first_sync, last_sync, signals = signals_walked,"
        " reviews_watermark, reviews_walked FROM sync_state"
    ) == [(9, "ok", T, T + 2 * DAY, 1, T - 10, T + 2 * DAY)]
    # 10 was noted as synced though none of its listings came; 11 has no row at all.


def test_reviews_to_be_read_again(old, home):
    two_shops(old)
    home.take(old.path, "--reread-reviews")
    assert home.history("SELECT reviews_watermark, reviews_walked FROM sync_state") == [
        (None, None)
    ]


def test_a_review_is_one_with_and_without_its_transaction(old, home):
    two_shops(old)
    home.take(old.path)
    sent = [
        {"transaction_id": 1, "listing_id": 100, "buyer_user_id": 3, "create_timestamp": T - 50,
         "review": "edited since", "rating": 5},
        {"transaction_id": 2, "listing_id": 100, "buyer_user_id": 4, "create_timestamp": T - 50},
        {"transaction_id": 3, "listing_id": 101, "buyer_user_id": 3, "create_timestamp": T},
    ]  # fmt: skip
    with closing(open_history(home.path / "etsy_data.db", Selection.of())) as history:
        assert append_reviews(history, Selection.of(), 9, sent, now_s=T) == 2
        assert append_reviews(history, Selection.of(), 9, sent, now_s=T) == 0
    other = NewHome(home.path.parent / "other")
    with closing(open_history(other.path / "etsy_data.db", Selection.of())) as history:
        append_reviews(history, Selection.of(), 9, sent, now_s=T)
    other.take(old.path)
    assert other.history("SELECT count(*) FROM reviews") == [(5,)]


def test_twice_and_after_more_was_collected(old, home):
    two_shops(old)
    home.take(old.path)
    once = home.dump()
    assert "rows of" not in home.take(old.path)
    assert home.dump() == once
    old.tables(
        "", shops_dynamic=[{"shop_id": 9, "snapshot_timestamp": T + 3 * DAY, "num_favorers": 7}]
    )
    home.take(old.path)
    assert home.history(
        "SELECT num_favorers, review_count FROM shops_dynamic ORDER BY snapshot_timestamp DESC"
    )[0] == (7, 2)


def test_odd_values_and_other_columns_are_not_lost(old, home):
    old.tables(OLD_TABLES + "ALTER TABLE shops ADD shop_name TEXT; ALTER TABLE shops ADD mood TEXT")
    with closing(sqlite3.connect(old.database)) as connection:
        connection.execute(
            "INSERT INTO shops (shop_id, snapshot_timestamp, shop_name, create_date, mood)"
            " VALUES (9, ?, ?, 'long ago', 'fine')",
            (T, "O'Brien"),
        )
        connection.execute(
            "INSERT INTO listings (listing_id, snapshot_timestamp, shop_id, title)"
            " VALUES (100, '2026-05-17T00:00:00+00:00', 9, CAST(x'41ff42' AS TEXT))"
        )
        connection.execute(
            "INSERT INTO listings_dynamic (listing_id, snapshot_timestamp, state)"
            " VALUES (100, 'never', 'active'), (100, ?, 'active')",
            (T + DAY,),
        )
        connection.commit()
    home.take(old.path)
    assert home.history("SELECT shop_name, create_date FROM shops") == [("O'Brien", None)]
    assert home.history("SELECT title FROM listings") == [("A�B",)]
    assert home.history("SELECT table_name, field, value FROM oddities ORDER BY 1") == [
        ("listings", "title", '"A\\udcffB"'), ("shops", "create_date", '"long ago"'),
    ]  # fmt: skip
    assert [(row["what"], row["entry"]) for row in home.report()] == [
        ("columns left behind", "mood"), ("broken rows", "100"),
    ]  # fmt: skip
    state = home.dump()
    home.take(old.path)
    assert home.dump() == state


def test_static_tables_without_times(old, home):
    old.tables(
        "CREATE TABLE shops (shop_id INTEGER PRIMARY KEY, url TEXT);"
        "CREATE TABLE shops_dynamic (id INTEGER PRIMARY KEY, shop_id, snapshot_timestamp,"
        " num_favorers)",
        shops=[{"shop_id": 1, "url": "a"}, {"shop_id": 2, "url": "b"}],
        shops_dynamic=[{"shop_id": 1, "snapshot_timestamp": T, "num_favorers": 1}],
    )
    os.utime(old.database, (T + 5, T + 5))
    home.take(old.path)
    assert home.history("SELECT shop_id, snapshot_timestamp FROM shops") == [(1, T), (2, T + 5)]
    os.utime(old.database, (T + 500, T + 500))
    home.take(old.path)
    assert home.history("SELECT count(*) FROM shops") == [(2,)]


def test_in_the_home_itself_the_old_database_is_set_aside(home):
    old = OldFolder(home.path)
    two_shops(old)
    before = old.contents()["etsy_data.db"]
    refused = home.run("status")
    assert refused.returncode == 2
    home.take(home.path)
    assert old.contents()["older-tool/etsy_data.db"] == before
    assert home.history("SELECT count(*) FROM shops_dynamic") == [(4,)]
    state = home.dump()
    home.take(home.path)
    assert home.dump() == state


def test_a_damaged_database_gives_what_can_be_read(old, home):
    rows = [
        {"listing_id": 100, "snapshot_timestamp": T + i, "state": "active"} for i in range(20_000)
    ]
    old.tables(OLD_TABLES, shops=[shop(9)], listings=[listing(100, 9)], listings_dynamic=rows)
    body = bytearray(old.database.read_bytes())
    middle = len(body) // 4096 // 2 * 4096
    body[middle : middle + 4096] = b"\xa5" * 4096
    old.database.write_bytes(body)
    ended = home.run("import", old.path)
    assert ended.returncode == 1, ended.stdout
    assert home.history("SELECT count(*) FROM shops") == [(1,)]
    assert any(row["what"] == "damaged sources" for row in home.report())


def test_killed_at_any_time_it_ends_the_same(old, home, tmp_path):
    shops, dynamic, listings, times = [], [], [], []
    for i in range(1, 400):
        shops.append(shop(i))
        dynamic += [{"shop_id": i, "snapshot_timestamp": T + k, "num_favorers": k or None,
                     "listing_active_count": 9} for k in range(3)]  # fmt: skip
        for k in range(8):
            listings.append(listing(i * 100 + k, i))
            times += [{"listing_id": i * 100 + k, "snapshot_timestamp": T + n, "views": n or None}
                      for n in range(3)]  # fmt: skip
    reviews = [review(i, i * 100, T - k) for i in range(1, 400) for k in range(5)]
    synced = state("last_shop_sync", {str(i): T + 2 for i in range(1, 400)})
    old.tables(OLD_TABLES, shops=shops, shops_dynamic=dynamic, listings=listings,
               listings_dynamic=times, reviews=reviews, sync_state=[synced])  # fmt: skip
    for try_ in range(8):
        process = subprocess.Popen(
            home.command("import", old.path), env=home.environment(), stdout=subprocess.DEVNULL,
            cwd=ROOT,
        )  # fmt: skip
        time.sleep(0.5 + 0.15 * try_)
        process.send_signal(signal.SIGKILL)
        process.wait()
    home.take(old.path)
    undisturbed = NewHome(tmp_path / "undisturbed")
    undisturbed.take(old.path)
    mine, theirs = home.dump(), undisturbed.dump()
    for table in ("shops", "shops_dynamic", "listings", "listings_dynamic", "sync_state"):
        assert mine[f"etsy_data.db {table}"] == theirs[f"etsy_data.db {table}"]
        assert mine[f"etsy_data.db {table}"]
    assert len(mine["etsy_data.db reviews"]) == 399 * 5


def test_syncs_continue_from_what_was_imported(tmp_path):
    """Against the sandbox: no call for what is fresh, no review twice, no image fetched again.

    What was imported is as old as its files, so this world is in the present.
    """
    with SandboxProcess(shops=8, listings=60, images_mean=1, image_bytes=2000, pictures=4,
                        qps=10**6, qpd=10**9, start_at=0) as sandbox:  # fmt: skip
        first, second = NewHome(tmp_path / "first"), NewHome(tmp_path / "second")
        for home in (first, second):
            (home.path / "furnisync.toml").write_text("[images]\nmin_free_mb = 0\n")
            home.env = sandbox.env
        for job in ("images", "data"):
            assert first.run(job, "--fast").returncode == 0
        as_older_tool(first)
        second.take(first.path / "older", "--history", first.path / "older" / "etsy_data.db")
        assert second.check_files() == first.check_files()
        sandbox.reset_asked()
        ended = second.run("images", "--fast")
        assert ended.returncode == 0, ended.stdout
        assert sandbox.asked()["cdn"]["total"] == 0
        sandbox.reset_asked()
        ended = second.run("data", "--fast")
        assert ended.returncode == 0, ended.stdout
        assert sandbox.asked()["total"] == 0, sandbox.asked()
        rows = "SELECT count(*) FROM reviews"
        assert second.history(rows) == first.history(rows)


def as_older_tool(home):
    """Write what a home holds in the older tool's forms."""
    old = OldFolder(home.path / "older")
    entries = {}
    for listing_id, image_id, url, file, shop_id in home.rows(
        "SELECT i.listing_id, image_id, url, file, shop_id FROM images i JOIN listings l"
        " USING (listing_id) ORDER BY 1, rank"
    ):
        entry = entries.setdefault(str(listing_id), {"shop_id": shop_id, "images": []})
        entry["images"].append({"image_id": image_id, "url": url})
        if file:
            old.image(f"{listing_id}_{image_id}.jpg", (home.path / "images" / file).read_bytes())
    old.metadata(entries)
    (old.path / "image_metadata.json").touch()

    def table(name, columns):
        rows = home.history(f"SELECT {columns} FROM {name}")
        return [dict(zip(columns.split(", "), row, strict=True)) for row in rows]

    shops = table("shops_dynamic", "shop_id, snapshot_timestamp, num_favorers, review_count,"
                  " listing_active_count, transaction_sold_count, review_average")  # fmt: skip
    old.tables(
        OLD_TABLES,
        shops=table("shops", "shop_id, snapshot_timestamp, url"),
        shops_dynamic=shops,
        listings=table("listings", "listing_id, snapshot_timestamp, shop_id, title"),
        listings_dynamic=table("listings_dynamic", "listing_id, snapshot_timestamp, state"),
        reviews=table("reviews", "shop_id, listing_id, buyer_user_id, review, create_timestamp"),
        sync_state=[
            state("last_shop_sync", {r["shop_id"]: r["snapshot_timestamp"] for r in shops})
        ],
    )
