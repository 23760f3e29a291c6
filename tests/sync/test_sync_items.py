"""One broken item costs only itself: it is named, and everything else is complete."""

from __future__ import annotations

import pytest
from support.sync_world import check_complete, check_images, findable, served

BATCH = "listings/batch"


def poison(listing_id, do="500"):
    return {"where": "api", "call": BATCH, "match": {"member": listing_id}, "do": do}


def calls_of(sandbox):
    return sum(sandbox.asked()["calls"][BATCH].values())


@pytest.mark.parametrize("do", ["500", pytest.param("400", marks=pytest.mark.slow)])
def test_a_listing_that_makes_its_batch_fail_is_found_and_named(bent_home, bent, do):
    ill = sorted(findable(bent))[77]
    bent_home.sync("--fast")
    needed = calls_of(bent)
    others = [row for row in served(bent) if row["listing_id"] != ill]

    fresh = type(bent_home)(bent_home.path.with_name("fresh"), bent)
    bent.set_faults([poison(ill, do)])
    bent.reset_asked()
    ended = fresh.sync("--fast")
    assert ended.status == 1
    assert f"listing {ill} makes its batch fail and is set aside" in ended.out
    check_images(fresh, others)
    assert calls_of(bent) <= needed + 14
    assert fresh.status()["troubles"][0]["what"] == "listing"

    fresh.later(0.1)
    bent.reset_asked()
    fresh.sync("--fast")
    (asked,) = [one["query"]["listing_ids"] for one in bent.asked(log=True)["log"]
                if one["call"] == BATCH][:1]  # fmt: skip
    assert asked == str(ill), "it is asked alone"

    bent.set_faults([])
    fresh.later(1)
    assert fresh.sync("--fast").status == 0
    check_complete(fresh)
    assert fresh.status()["troubles"] == []


def test_an_image_that_a_listing_no_longer_shows_keeps_its_file(bent_home, bent):
    bent_home.sync("--fast")
    shown = {}
    for row in served(bent):
        shown.setdefault(row["listing_id"], []).append(row)
    listing_id, images = next((i, rows) for i, rows in shown.items() if len(rows) > 2)
    first = min(images, key=lambda row: row["rank"])
    bent.churn({"op": "images", "listing_ids": [listing_id], "drop": [first["image_id"]]})
    bent_home.later(31)
    bent_home.sync("--fast")
    found = {one["image_id"]: one for one in bent_home.metadata()[str(listing_id)]["images"]}
    old = found.pop(first["image_id"])
    assert (old["rank"], old["current"], old["status"]) == (None, False, "done")
    assert (bent_home.path / old["file"]).exists()
    assert sorted(one["rank"] for one in found.values()) == list(range(1, len(images)))
    assert not any("current" in one for one in found.values())


def test_a_list_page_that_always_fails_is_read_around(bent_home, bent):
    """One listing makes each page of a list fail that shows it; its shop's list has it, too."""
    ill = sorted(findable(bent))[77]
    lists = ["listings/active", "shops/{shop_id}/listings/active"]
    bent.set_faults([{"where": "api", "call": call, "do": "500", "shows": ill} for call in lists])
    ended = bent_home.sync("--fast")
    active = {row[0] for row in bent_home.rows("SELECT listing_id FROM listings")}
    assert active == findable(bent) - {ill}, ended.out
    assert "the result at offset" in ended.out
    bent.set_faults([])
    bent_home.later(31)
    assert bent_home.sync("--fast").status == 0
    check_complete(bent_home)


def test_what_a_search_shows_that_is_no_furniture_is_left_out_and_told(bent_home, bent):
    bent.set_faults(
        [{"where": "api", "call": "listings/active", "do": "ignore", "names": ["taxonomy_id"]}]
    )
    ended = bent_home.sync("--fast")
    assert ended.out.count("listings that are no furniture") >= 1
    rows = dict(bent_home.rows("SELECT listing_id, taxonomy_id FROM listings"))
    extra = rows.keys() - findable(bent)
    assert findable(bent) <= rows.keys()
    assert all(rows[one] is None for one in extra), "only those of which nothing is known"
    assert any("no furniture" in one["message"] for one in bent_home.status()["events"])


def test_a_server_with_smaller_pages_hides_nothing(bent_home, bent):
    lists = ["listings/active", "shops/{shop_id}/listings/active"]
    bent.set_faults(
        [{"where": "api", "call": call, "do": "page_size", "size": 20} for call in lists]
    )
    bent_home.sync("--fast")
    active = {row[0] for row in bent_home.rows("SELECT listing_id FROM listings")}
    assert active == findable(bent)


def test_a_server_that_ignores_the_order_hides_nothing(bent_home, bent):
    lists = ["listings/active", "shops/{shop_id}/listings/active"]
    bent.set_faults(
        [
            {"where": "api", "call": call, "do": "ignore", "names": ["sort_on", "sort_order"]}
            for call in lists
        ]
    )
    bent_home.sync("--fast")
    active = {row[0] for row in bent_home.rows("SELECT listing_id FROM listings")}
    assert active == findable(bent)
