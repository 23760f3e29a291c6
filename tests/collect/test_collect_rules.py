"""The rules that are easy to get wrong, one by one, against the sandbox's truth."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter

import pytest
from support.collect_world import (
    BATCH_CALL,
    LIST_CALL,
    REVIEW_CALL,
    SHOP_CALL,
    Home,
    Truth,
    calls_of,
    check_truth,
    known_furniture,
    later,
    no_calls,
    read_reviews,
    seed_catalog,
    small_sandbox,
    true_reviews,
)


def log_of(sandbox, call=None):
    log = sandbox.asked(log=True)["log"]
    return [entry for entry in log if call is None or entry["call"] == call]


def shop_of(entry) -> int:
    return int(entry["path"].split("/shops/")[1].split("/")[0])


def batched(sandbox) -> list[int]:
    return [
        int(i)
        for entry in log_of(sandbox, BATCH_CALL)
        for i in entry["query"]["listing_ids"].split(",")
    ]


# -- calls -------------------------------------------------------------------------------------


def check_floor(home, sandbox, *, most: float) -> None:
    """A page for each started 100 listings of each shop, a batch for each 100, shops ride along."""
    sandbox.reset_asked()
    home.sync()
    truth = Truth(sandbox)
    pages = listings = 0
    for shop_id, shop in truth.shops.items():
        listed = sum(row["findable"] for row in truth.of_shop(shop_id))
        pages += max(1, math.ceil(listed / 100))
        hidden = known_furniture(truth).get(shop_id, set()) if not shop["findable"] else set()
        listings += listed + (0 if shop["gone"] else len(hidden))
    without = [s for s in truth.shops.values() if not s["gone"] and not s["active"]]
    gone = [s for s in truth.shops.values() if s["gone"]]  # asked twice: one 404 proves nothing
    floor = pages + math.ceil(listings / 100) + len(without) + len(gone)
    asked = calls_of(sandbox)
    spent = asked[LIST_CALL] + asked[BATCH_CALL] + asked.get(SHOP_CALL, 0)
    assert spent <= most * floor, f"{spent} calls, the floor is {floor}: {asked}"
    assert max(Counter(batched(sandbox)).values()) == 1
    check_truth(home, truth, known=known_furniture(truth))


def test_calls_of_a_small_first_sync_are_the_floor(tmp_path):
    with small_sandbox(shops=14, listings=900) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        check_floor(home, sandbox, most=1.0)


@pytest.mark.slow
def test_calls_of_300_shops_are_near_the_floor(tmp_path):
    with small_sandbox(shops=300, listings=6000) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        check_floor(home, sandbox, most=1.05)
        with no_calls(sandbox):
            home.sync()


def test_furniture_only_takes_what_image_sync_knows_by_batch_alone(tmp_path):
    with small_sandbox(shops=14, listings=1000) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        home.sync("--fast", "--furniture-only")
        truth = Truth(sandbox)
        asked = calls_of(sandbox)
        known = known_furniture(truth)
        alive = {i for shop, ids in known.items() if not truth.shops[shop]["gone"] for i in ids}
        stored = {row[0] for row in home.rows("SELECT listing_id FROM listings_dynamic")}
        assert stored == alive
        assert LIST_CALL not in asked
        bare = [i for i, shop in truth.shops.items() if not known.get(i) or shop["gone"]]
        gone = sum(shop["gone"] for shop in truth.shops.values())  # asked twice
        assert asked[BATCH_CALL] + asked.get(SHOP_CALL, 0) - len(bare) - gone <= 11
        with no_calls(sandbox):
            home.sync("--fast", "--furniture-only")


def test_furniture_only_tells_ends_and_returns(bent_home, bent):
    """What ends in image sync's eyes is looked up once more, and gets its last row."""
    bent_home.sync("--fast", "--furniture-only")
    rows = [row for row in bent.truth_listings() if row["is_furniture"] and row["findable"]]
    sold, removed = [row["listing_id"] for row in rows[:2]]
    bent.churn(
        {"op": "end", "listing_ids": [sold], "state": "sold_out"},
        {"op": "end", "listing_ids": [removed], "state": "removed"},
    )
    mark_ended(bent_home, sold, removed)
    for days in (15, 15):
        later(bent_home, bent, days)
        bent.reset_asked()
        bent_home.sync("--fast", "--furniture-only")
        states = bent_home.rows(
            "SELECT state FROM listings_dynamic WHERE listing_id IN (?, ?) AND state != 'active'"
            " ORDER BY listing_id = ?",
            sold,
            removed,
            removed,
        )
        assert states == [("sold_out",), ("gone",)]
    assert not {sold, removed} & set(batched(bent))


def mark_ended(home, *listing_ids) -> None:
    connection = sqlite3.connect(home.path / "catalog.db")
    with connection:
        connection.executemany(
            "UPDATE listings SET state = 'gone' WHERE listing_id = ?", [(i,) for i in listing_ids]
        )
    connection.close()


# -- listings that end -------------------------------------------------------------------------


def test_an_ended_listing_is_looked_up_once(bent_home, bent):
    bent_home.sync()
    row = next(row for row in bent.truth_listings() if row["findable"])
    ended = row["listing_id"]
    bent.churn({"op": "end", "listing_ids": [ended], "state": "expired"})
    for times in (1, 0):
        later(bent_home, bent, 15)
        bent.reset_asked()
        bent_home.sync()
        assert batched(bent).count(ended) == times
    states = "SELECT state FROM listings_dynamic WHERE listing_id = ? ORDER BY snapshot_timestamp"
    assert bent_home.rows(states, ended) == [("active",), ("expired",)]
    bent.churn({"op": "bring_back", "listing_ids": [ended]})
    later(bent_home, bent, 15)
    bent_home.sync()
    assert bent_home.rows(states, ended) == [("active",), ("expired",), ("active",)]


def test_an_empty_list_ends_nothing(bent_home, bent):
    bent_home.sync()
    truth = Truth(bent)
    shop_id = max(truth.shops, key=lambda i: truth.shops[i]["active"])
    bent.churn({"op": "shop", "shop_id": shop_id, "fields": {"searchable": False}})
    later(bent_home, bent, 15)
    bent_home.sync()
    states = bent_home.rows(
        "SELECT state, count(*) FROM listings_latest WHERE shop_id = ? GROUP BY state", shop_id
    )
    assert states == [("active", truth.shops[shop_id]["active"])]


# -- reviews -----------------------------------------------------------------------------------


def test_reviews_of_the_watermarks_own_second(bent_home, bent):
    shop_id = next(i for i, s in Truth(bent).shops.items() if s["findable"])
    second = int(bent.now()) - 3600
    bent.churn({"op": "add_reviews", "shop_id": shop_id, "n": 5, "created": second})
    bent_home.sync()
    assert bent_home.rows(
        "SELECT reviews_watermark FROM sync_state WHERE shop_id = ?", shop_id
    ) == [(second,)]
    bent.churn({"op": "add_reviews", "shop_id": shop_id, "n": 3, "created": second})
    later(bent_home, bent, 15)
    bent.reset_asked()
    bent_home.sync()
    assert [shop_of(entry) for entry in log_of(bent, REVIEW_CALL)].count(shop_id) == 1
    truth = Truth(bent)
    alive = [i for i, shop in truth.shops.items() if not shop["gone"]]
    assert read_reviews(bent_home) == true_reviews(truth, alive)


def test_no_review_call_where_signals_allow_to_wait(bent_home, bent):
    bent_home.sync()
    truth = Truth(bent)
    moved = [i for i, shop in truth.shops.items() if shop["findable"]][:4]
    bent.churn(*({"op": "add_reviews", "shop_id": i} for i in moved[:3]))
    sold = truth.shops[moved[3]]["api"]["transaction_sold_count"] + 1
    bent.churn({"op": "shop", "shop_id": moved[3], "fields": {"transaction_sold_count": sold}})
    later(bent_home, bent, 15)
    bent.reset_asked()
    bent_home.sync()
    asked = Counter(shop_of(entry) for entry in log_of(bent, REVIEW_CALL))
    figures = {i: s["api"]["review_count"] for i, s in Truth(bent).shops.items()}
    aged = {i for i in figures if figures[i] != truth.shops[i]["api"]["review_count"]}
    assert set(moved) <= set(asked) <= set(moved) | aged
    assert set(asked.values()) == {1}


def test_an_interrupted_walk_keeps_what_came_and_goes_on_there(tmp_path):
    with small_sandbox(shops=3, listings=20, giant_reviews=900) as sandbox:
        truth = Truth(sandbox)
        shop_id = max(truth.shops, key=lambda i: truth.shops[i]["reviews"])
        home = Home(tmp_path / "home", sandbox, api={"attempts": 1})
        seed_catalog(home, sandbox)
        match = {"shop_id": str(shop_id)}
        from_then_on = list(range(5, 60))
        sandbox.set_faults(
            [{"do": "500", "call": REVIEW_CALL, "match": match, "nth": from_then_on}]
        )
        assert home.start("--fast").wait().status == 1
        kept = home.number("SELECT count(*) FROM reviews WHERE shop_id = ?", shop_id)
        assert kept >= 4 * 98
        state = "SELECT reviews_watermark, reviews_reason FROM sync_state WHERE shop_id = ?"
        watermark, reason = home.rows(state, shop_id)[0]
        assert watermark is None
        assert "500" in reason
        sandbox.set_faults([])
        sandbox.reset_asked()
        home.sync()
        assert calls_of(sandbox)[REVIEW_CALL] <= math.ceil((900 - kept) / 98) + 1
        assert read_reviews(home) == true_reviews(truth, truth.shops)


def test_no_shop_has_a_review(tmp_path):
    with small_sandbox(shops=12, listings=200, reviews_mean=0) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        home.sync()
        truth = Truth(sandbox)
        check_truth(home, truth, known=known_furniture(truth))
        with no_calls(sandbox):
            home.sync()


def test_a_shop_whose_reviews_answer_404_waits_for_its_next_sync(bent_home, bent):
    shop_id = next(i for i, s in Truth(bent).shops.items() if s["findable"])
    bent.set_faults([{"do": "404", "call": REVIEW_CALL, "match": {"shop_id": str(shop_id)}}])
    bent_home.sync()
    later(bent_home, bent, 1)
    with no_calls(bent):
        bent_home.sync()
    bent.set_faults([])
    later(bent_home, bent, 14)
    bent_home.sync()
    truth = Truth(bent)
    alive = [i for i, shop in truth.shops.items() if not shop["gone"]]
    assert read_reviews(bent_home) == true_reviews(truth, alive)


# -- order -------------------------------------------------------------------------------------


def test_most_listings_first_then_the_most_overdue(bent_home, bent):
    bent_home.configure(api={"connections": 1}, data={"reviews_share_percent": 0.0})
    sizes = {i: len(ids) for i, ids in known_furniture(Truth(bent)).items()}
    bent_home.sync("--fast", "--top", "5")
    top = [shop_of(entry) for entry in log_of(bent, LIST_CALL)]
    assert [sizes[i] for i in top] == sorted(sizes.values(), reverse=True)[:5]
    later(bent_home, bent, 10)
    bent_home.sync()
    later(bent_home, bent, 10)
    bent.reset_asked()
    synced = "SELECT shop_id FROM sync_state WHERE status = 'ok' ORDER BY last_sync, shop_id"
    overdue = [shop_id for (shop_id,) in bent_home.rows(synced)][:5]
    assert set(overdue) == set(top)
    bent_home.sync()
    assert [shop_of(entry) for entry in log_of(bent, LIST_CALL)] == overdue
    later(bent_home, bent, 10)
    bent.reset_asked()
    bent_home.sync("--fast", "--top", "3")
    assert LIST_CALL not in calls_of(bent)


def test_a_half_sync_older_than_the_cadence_begins_anew(bent_home, bent):
    """No row bears a time long before its values."""
    bent_home.configure(api={"attempts": 1})
    bent.set_faults([{"do": "500", "call": BATCH_CALL}, {"do": "500", "call": SHOP_CALL}])
    assert bent_home.start("--fast").wait().status == 1
    assert bent_home.number("SELECT count(*) FROM work_shops")
    bent.set_faults([])
    later(bent_home, bent, 20)
    bent_home.sync()
    truth = Truth(bent)
    check_truth(bent_home, truth, known=known_furniture(truth))


# -- where shops and fields come from ----------------------------------------------------------


def test_metadata_is_the_only_source(bent_home, bent):
    metadata = {
        str(row["listing_id"]): {"shop_id": row["shop_id"], "images": []}
        for row in bent.truth_listings()
        if row["is_furniture"] and row["state"] == "active"
    }
    write_metadata(bent_home, metadata)
    bent_home.sync()
    truth = Truth(bent)
    known = known_furniture(truth)
    counts = dict(bent_home.rows("SELECT shop_id, furniture_listings FROM sync_state"))
    assert counts == {i: len(ids) for i, ids in known.items()}
    hidden = next(i for i, s in truth.shops.items() if not s["searchable"] and known.get(i))
    stored = bent_home.rows("SELECT listing_id FROM listings WHERE shop_id = ?", hidden)
    assert {row[0] for row in stored} == known[hidden]
    other = Home(bent_home.path.parent / "other", bent)
    write_metadata(other, metadata)
    bent.reset_asked()
    other.sync("--fast", "--furniture-only")
    assert LIST_CALL not in calls_of(bent)
    alive = {i for shop, ids in known.items() if not truth.shops[shop]["gone"] for i in ids}
    assert {row[0] for row in other.rows("SELECT listing_id FROM listings")} == alive


def write_metadata(home, metadata) -> None:
    (home.path / "catalog.db").unlink(missing_ok=True)
    (home.path / "image_metadata.json").write_text(json.dumps(metadata))


def test_a_field_selected_later_gets_its_column(bent_home, bent):
    bent_home.configure(
        data={"shop_fields": ["url"], "listing_fields": ["price", "tags"], "review_fields": []}
    )
    bent_home.sync()
    assert columns(bent_home, "listings_dynamic") == {
        "listing_id",
        "snapshot_timestamp",
        "state",
        "price_amount",
        "price_divisor",
        "price_currency_code",
        "wrong_clock",
    }
    bent_home.configure(
        data={
            "shop_fields": ["url", "shop_name", "is_vacation"],
            "listing_fields": ["price", "views", "skus", "featured_rank"],
            "review_fields": ["rating", "image_url_fullxfull"],
        }
    )
    later(bent_home, bent, 200)
    bent_home.sync()
    truth = Truth(bent)
    older = "(SELECT min(snapshot_timestamp) FROM shops_dynamic) + 86400"
    assert not bent_home.rows(
        f"SELECT 1 FROM listings_dynamic WHERE views NOT NULL AND snapshot_timestamp < {older}"
    )
    newer = bent_home.rows(
        "SELECT listing_id, views, featured_rank, skus FROM listings_latest WHERE state = 'active'"
    )
    assert newer
    for listing_id, views, rank, skus in newer:
        api = truth.listings[listing_id]["api"]
        assert (views, rank) == (api["views"], api["featured_rank"])
        assert (skus is None) == (api.get("skus") is None)
    assert {"tags", "skus"} <= columns(bent_home, "listings")
    for shop_id, name in bent_home.rows("SELECT shop_id, shop_name FROM shops_latest"):
        assert name == truth.shops[shop_id]["api"]["shop_name"]


def columns(home, table) -> set[str]:
    return {row[0] for row in home.rows(f"SELECT name FROM pragma_table_info('{table}')")}
