"""Etsy broken as a whole or in part: nothing is blamed, it is told, everything comes later."""

from __future__ import annotations

import json

import pytest
from support.collect_world import BATCH_CALL, REVIEW_CALL, Truth, read_reviews, true_reviews

FURNISYNC = ("-m", "furnisync")
API = {"where": "api"}
NO_TRIES = "SELECT count(*) FROM sync_state WHERE failures > 0 OR reviews_failures > 0"


def show(home, *arguments):
    return home.start(*arguments, command=FURNISYNC).wait()


def check_whole(home, sandbox):
    truth = Truth(sandbox)
    alive = [shop_id for shop_id, shop in truth.shops.items() if not shop["gone"]]
    synced = {row[0] for row in home.rows("SELECT shop_id FROM shops_latest")}
    assert synced >= set(alive)
    assert read_reviews(home) == true_reviews(truth, alive)


@pytest.mark.parametrize(
    "do",
    [
        "login_page",
        pytest.param("500", marks=pytest.mark.slow),
        pytest.param("reset", marks=pytest.mark.slow),
    ],
)
def test_an_outage_in_the_middle_costs_no_shop_a_try(bent_home, bent, do):
    run = bent_home.start("--fast")
    run.until(lambda: bent.asked()["total"] >= 5)
    bent.set_faults([{**API, "do": do}])
    run.until(lambda: "Etsy's API is broken" in run.words)
    (outage,) = json.loads(show(bent_home, "status", "--json").out)["data"]["outages"]
    assert outage["upstream"] == "Etsy's API"
    assert outage["since"] <= outage["next_probe"]
    assert "Etsy's API since" in show(bent_home, "status").out
    assert "Etsy's API is broken:" in show(bent_home, "notices", "check").out
    assert bent_home.number(NO_TRIES) == 0
    bent.set_faults([])
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert ended.out.count("is broken") == ended.out.count("works again") == 1
    assert json.loads(show(bent_home, "status", "--json").out)["data"]["outages"] == []
    check_whole(bent_home, bent)


def test_a_run_that_ends_gives_up_and_says_why(bent_home, bent):
    bent_home.configure(api={"timeout_s": 1.0, "outage_patience_s": 2.0})
    bent.set_faults([{**API, "do": "login_page"}])
    ended = bent_home.start("--fast").wait()
    assert ended.status == 1, ended.out
    assert "Etsy's API has been broken since" in ended.out
    assert "the answer is not JSON" in ended.out
    assert bent_home.number(NO_TRIES) == 0
    bent.set_faults([])
    bent_home.sync()
    check_whole(bent_home, bent)


def test_a_kill_during_an_outage_leaves_no_outage_behind(bent_home, bent):
    bent.set_faults([{**API, "do": "500"}])
    run = bent_home.start("--fast")
    run.until(lambda: "Etsy's API is broken" in run.words)
    run.kill()
    assert json.loads(show(bent_home, "status", "--json").out)["data"]["outages"] == []
    bent.set_faults([])
    bent_home.sync()
    check_whole(bent_home, bent)


def test_only_reviews_broken(bent_home, bent):
    bent.set_faults([{**API, "call": REVIEW_CALL, "do": "500"}])
    run = bent_home.start("--fast")
    run.until(lambda: "Etsy's API (reviews) is broken" in run.words)
    run.until(lambda: bent_home.number("SELECT count(*) FROM shops_latest") > 5)
    bent.set_faults([])
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert ended.out.count("is broken") == ended.out.count("works again") == 1
    assert bent_home.number(NO_TRIES) == 0
    check_whole(bent_home, bent)


@pytest.mark.parametrize("named", [True, False], ids=["headers", "no headers"])
def test_one_shop_that_answers_429_costs_only_itself(bent_home, bent, named):
    truth = Truth(bent)
    shop_id = next(i for i, shop in truth.shops.items() if not shop["gone"])
    left = {"x-remaining-today": 999_000_000, "x-remaining-this-second": 149, "retry-after": 86_400}
    details = {"with": left} if named else {"headers": False, "retry_after": 1}
    bent.set_faults(
        [{**API, "call": REVIEW_CALL, "match": {"shop_id": shop_id}, "do": "429", **details}]
    )
    ended = bent_home.start("--fast").wait()
    assert ended.status == 1, ended.out
    assert f"reviews of shop {shop_id} wait" in ended.out
    alive = [i for i, shop in truth.shops.items() if not shop["gone"] and i != shop_id]
    assert read_reviews(bent_home) == true_reviews(truth, alive)


@pytest.mark.parametrize("do", ["500", pytest.param("400", marks=pytest.mark.slow)])
def test_a_listing_that_makes_its_batch_fail_costs_only_itself(bent_home, bent, do):
    truth = Truth(bent)
    ill = next(
        i for i, row in truth.listings.items()
        if row["findable"] and not truth.shops[row["shop_id"]]["gone"]
    )  # fmt: skip
    bent.set_faults([{**API, "call": BATCH_CALL, "match": {"member": ill}, "do": do}])
    ended = bent_home.start("--fast").wait()
    assert f"listing {ill} makes its batch fail and is set aside" in ended.out
    shown = {row["listing_id"] for row in truth.listings.values() if row["findable"]}
    came = {row[0] for row in bent_home.rows("SELECT listing_id FROM listings_latest")}
    assert came >= shown - {ill}
    assert ill not in came
    assert {row[0] for row in bent_home.rows("SELECT shop_id FROM shops_latest")} >= {
        i for i, shop in truth.shops.items() if not shop["gone"]
    }
    troubles = json.loads(show(bent_home, "status", "--json").out)["data"]["troubles"]
    assert "listing" in [one["what"] for one in troubles]
    bent.set_faults([])
    bent_home.later(15)
    bent_home.sync()
    assert ill in {row[0] for row in bent_home.rows("SELECT listing_id FROM listings_latest")}
    troubles = json.loads(show(bent_home, "status", "--json").out)["data"]["troubles"]
    assert "listing" not in [one["what"] for one in troubles]


def test_a_review_that_makes_its_page_fail_hides_no_other(bent_home, bent):
    truth = Truth(bent)
    alive = [i for i, shop in truth.shops.items() if not shop["gone"]]
    expected = true_reviews(truth, alive)
    longest = max((truth.reviews[shop_id] for shop_id in alive), key=len)
    ill = longest[len(longest) // 2]["transaction_id"]
    bent.set_faults([{**API, "call": REVIEW_CALL, "do": "500", "shows": ill}])
    bent_home.start("--fast").wait()
    for hours in (1.1, 2.1, 4.1):
        bent_home.later(hours / 24)
        bent_home.start("--fast").wait()
    missing = [row for row in expected if row not in read_reviews(bent_home)]
    assert all(("int", ill) in row for row in missing), missing
