"""Shops that no single query shows whole."""

from __future__ import annotations

import math

import pytest
from support.collect_world import (
    BATCH_CALL,
    LIST_CALL,
    REVIEW_CALL,
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


@pytest.mark.slow
def test_a_shop_of_13_000_listings(tmp_path):
    """Read from both ends of its list."""
    with small_sandbox(shops=3, listings=13_000, giant_shop=12_900, reviews_mean=2) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        home.sync(timeout_s=400)
        truth = Truth(sandbox)
        check_truth(home, truth, known=known_furniture(truth))
        giant = max(truth.shops.values(), key=lambda shop: shop["active"])
        found = sum(row["findable"] for row in truth.of_shop(giant["shop_id"]))
        asked = calls_of(sandbox)
        assert asked[LIST_CALL] <= math.ceil(found / 100) + 4
        assert asked[BATCH_CALL] <= math.ceil(len(truth.listings) / 100) + 1
        with no_calls(sandbox):
            home.sync()


@pytest.mark.slow
def test_a_shop_beyond_both_ends_of_its_list(tmp_path):
    """What image sync knows comes by batch; the rest is told as a number."""
    with small_sandbox(shops=2, listings=24_600, giant_shop=24_500, reviews_mean=1) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        ended = home.sync(timeout_s=500)
        truth = Truth(sandbox)
        giant = max(truth.shops.values(), key=lambda shop: shop["active"])
        shop_id = giant["shop_id"]
        stored = {
            row[0]
            for row in home.rows("SELECT listing_id FROM listings WHERE shop_id = ?", shop_id)
        }
        assert known_furniture(truth)[shop_id] <= stored
        missed = giant["active"] - len(stored)
        assert missed > 0
        assert home.rows(
            "SELECT listings_active - listings_found FROM sync_state WHERE shop_id = ?", shop_id
        ) == [(missed,)]
        assert f"{missed:,}" in ended.out


@pytest.mark.slow
def test_a_shop_of_15_000_reviews(tmp_path):
    with small_sandbox(shops=3, listings=30, giant_reviews=15_000) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        home.sync(timeout_s=300)
        truth = Truth(sandbox)
        assert read_reviews(home) == true_reviews(truth, truth.shops)
        assert calls_of(sandbox)[REVIEW_CALL] <= 1.04 * 150 + 4
        giant = max(truth.shops, key=lambda shop: truth.shops[shop]["reviews"])
        sandbox.churn({"op": "add_reviews", "shop_id": giant, "n": 3})
        later(home, sandbox, 15)
        sandbox.reset_asked()
        home.sync()
        assert calls_of(sandbox)[REVIEW_CALL] <= len(truth.shops)
        assert read_reviews(home) == true_reviews(Truth(sandbox), truth.shops)


def test_clusters_of_reviews_in_one_second(tmp_path):
    """More in a second than a page holds, at the top and in the middle of the walk."""
    with small_sandbox(shops=3, listings=20, reviews_mean=150) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        seed_catalog(home, sandbox)
        truth = Truth(sandbox)
        shop_id = max(truth.shops, key=lambda shop: truth.shops[shop]["reviews"])
        middle = truth.reviews[shop_id][len(truth.reviews[shop_id]) // 2]["create_timestamp"]
        now = int(sandbox.now())
        sandbox.churn(
            {"op": "add_reviews", "shop_id": shop_id, "n": 250, "created": middle},
            {"op": "add_reviews", "shop_id": shop_id, "n": 301, "created": now},
        )
        home.sync()
        assert read_reviews(home) == true_reviews(Truth(sandbox), truth.shops)
        later(home, sandbox, 15)
        sandbox.churn({"op": "add_reviews", "shop_id": shop_id, "n": 3, "created": now})
        home.sync()
        later(home, sandbox, 15)
        home.sync()
        assert read_reviews(home) == true_reviews(Truth(sandbox), truth.shops)
