"""What the second month brings: other settings, new cycles, listings that come, end and return."""

from __future__ import annotations

import pytest
from support.processes import DAY_S
from support.sync_world import Home, check_complete, check_images, digest, no_questions, served


def test_larger_size_is_fetched_beside_nothing_lost(bent_home, bent):
    assert bent_home.sync("--fast").status == 0
    small = {name: digest(path) for name, path in bent_home.files().items()}
    bent.reset_asked()
    refused = str(served(bent)[0]["image_id"])
    rule = {"where": "cdn", "match": {"image_id": refused, "size": "1140xN"}, "do": "404"}
    bent.set_faults([rule])
    bent_home.configure(images={"size": "1140xN"})
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    assert bent.asked()["total"] == 0  # urls of other sizes follow from the known one
    sizes = dict(bent_home.rows("SELECT image_id, size FROM images"))
    assert sizes.pop(int(refused)) == "570xN"
    assert set(sizes.values()) == {"1140xN"}
    truth = [row for row in bent.truth_images("1140xN") if str(row["image_id"]) in map(str, sizes)]
    files = bent_home.files()
    assert files.keys() == small.keys()
    by_id = {int(name.split("_")[1].split(".")[0]): path for name, path in files.items()}
    wanted = {row["image_id"]: row["sha256"] for row in truth if row["findable"]}
    assert all(digest(by_id[one]) == sha for one, sha in wanted.items())
    [kept] = [name for name in files if refused in name]
    assert digest(files[kept]) == small[kept]
    states = {i["status"] for e in bent_home.metadata().values() for i in e["images"]}
    assert states == {"done"}


def test_smaller_size_later_fetches_nothing_anew(bent_home, bent):
    bent_home.configure(images={"size": "fullxfull"})
    assert bent_home.sync("--fast").status == 0
    bent_home.configure(images={"size": "570xN"})
    with no_questions(bent):
        assert bent_home.sync("--fast").status == 0


def test_primary_first_then_all(bent_home, bent):
    bent_home.configure(images={"which": "primary"})
    assert bent_home.sync("--fast").status == 0
    first = [row for row in served(bent) if row["rank"] == 1]
    check_images(bent_home, first)
    bent.reset_asked()
    bent_home.configure()
    assert bent_home.sync("--fast").status == 0
    asked = bent.asked()
    assert asked["total"] == 0
    assert asked["cdn"]["total"] == len(served(bent)) - len(first)
    check_complete(bent_home)


def change_the_world(sandbox) -> dict[str, list[int]]:
    truth = [row for row in sandbox.truth_listings() if row["findable"] and row["is_furniture"]]
    ids = [row["listing_id"] for row in truth]
    ends = {"sold_out": ids[0:3], "expired": ids[3:5], "inactive": ids[5:6], "removed": ids[6:8]}
    back = [
        row["listing_id"]
        for row in sandbox.truth_listings()
        if row["is_furniture"] and row["searchable"] and row["state"] == "sold_out"
    ][:2]
    sandbox.churn(
        *({"op": "end", "listing_ids": some, "state": state} for state, some in ends.items()),
        {"op": "bring_back", "listing_ids": back},
        {"op": "create", "shop_id": truth[9]["shop_id"], "n": 3, "taxonomy_id": 977, "images": 2},
        {"op": "images", "listing_ids": ids[10:12], "add": 2},
        {"op": "images", "listing_ids": ids[12:13], "drop": truth[12]["image_ids"][:1]},
    )
    return ends


def test_new_cycle_after_thirty_days(bent_home, bent):
    assert bent_home.sync("--fast").status == 0
    before = {name: digest(path) for name, path in bent_home.files().items()}
    bent_home.later(20)
    with no_questions(bent):
        assert bent_home.status()["images"]
    ends = change_the_world(bent)
    bent_home.later(11)
    bent.reset_asked()
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    states = dict(bent_home.rows("SELECT listing_id, state FROM listings"))
    for state, ids in ends.items():
        assert {states[one] for one in ids} == {"gone" if state == "removed" else state}
    truth = served(bent)
    files = bent_home.files()
    assert all(digest(files[name]) == sha for name, sha in before.items()), "images are kept"
    for row in truth:
        assert any(f"{row['listing_id']}_{row['image_id']}." in name for name in files), row
    asked = bent.asked()
    assert asked["cdn"]["total"] == len(files) - len(before)
    assert asked["total"] <= 1 + 4 + 5
    metadata = bent_home.metadata()
    assert all(metadata[str(one)]["images"] is not None for ids in ends.values() for one in ids)
    with no_questions(bent):
        assert bent_home.sync("--fast").status == 0


def test_ended_listing_that_returns_is_active_again(bent_home, bent):
    assert bent_home.sync("--fast").status == 0
    one = next(row["listing_id"] for row in bent.truth_listings() if row["findable"])
    for op, state in (("end", "sold_out"), ("bring_back", "active")):
        bent.churn({"op": op, "listing_ids": [one]})
        bent_home.later(31)
        assert bent_home.sync("--fast").status == 0
        assert bent_home.rows("SELECT state FROM listings WHERE listing_id = ?", one) == [(state,)]
    check_complete(bent_home)


def test_slow_mode_looks_for_new_listings_newest_first(bent_home, bent):
    assert bent_home.sync("--fast").status == 0
    bent_home.later(1)
    shop = next(r["shop_id"] for r in bent.truth_listings() if r["findable"])
    [made] = bent.churn({"op": "create", "shop_id": shop, "n": 2, "taxonomy_id": 977, "images": 2})
    bent.reset_asked()
    run = bent_home.script("--slow")
    new = f"({','.join(map(str, made['listing_ids']))})"
    done = f"SELECT count(*) FROM images WHERE status = 'done' AND listing_id IN {new}"
    run.until(lambda: bent_home.number(done) == 4)
    run.process.terminate()
    assert run.wait(10).status == 0
    calls = bent.asked()["calls"]
    assert calls["listings/active"] == {"200": 1}
    assert calls["listings/batch"] == {"200": 1}


@pytest.mark.parametrize("days", [-400, 400])
def test_clock_that_was_wrong_once_stops_nothing_for_ever(bent_home, bent, days):
    """A machine without a battery begins in another year; the next run knows the time again.

    No Date tells the first run of it, as none told the versions before.
    """
    odd = {"where": "cdn", "do": "500", "share": 0.2, "sticky": True}
    bent.set_faults([odd, {"where": "api", "do": "no_date"}])
    bent_home.env["FURNISYNC_CLOCK_OFFSET_S"] = str(days * DAY_S)
    run = bent_home.start("--fast")
    run.until(lambda: bent_home.number("SELECT count(*) FROM images") > 100)
    run.process.terminate()
    run.wait()
    bent.set_faults([])
    del bent_home.env["FURNISYNC_CLOCK_OFFSET_S"]
    bent_home.later(8)
    assert bent_home.sync("--fast").status == 0
    check_complete(bent_home)
    shop = next(r["shop_id"] for r in bent.truth_listings() if r["findable"])
    bent.churn({"op": "create", "shop_id": shop, "n": 1, "taxonomy_id": 977, "images": 1})
    bent_home.later(2)
    bent_home.configure(crawl={"look_every_s": 1.0})
    assert bent_home.sync("--fast").status == 0
    check_complete(bent_home)


def test_home_that_moved(bent_home, bent, tmp_path):
    assert bent_home.sync("--fast").status == 0
    bent_home.path.rename(tmp_path / "elsewhere")
    moved = Home(tmp_path / "elsewhere", bent)
    with no_questions(bent):
        assert moved.sync("--fast").status == 0
    check_complete(moved)
