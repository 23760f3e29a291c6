"""The generated world, how it changes, and the life of the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from asking_sandbox import SMALL, Asker

from furnisync.sandbox.options import Options, parse_options
from furnisync.sandbox.process import NOON, SandboxError, SandboxProcess
from furnisync.sandbox.world.generate import generate
from furnisync.sandbox.world.texts import title_of

DAY = 86_400


def seen(world):
    return [
        (one.listing_id, one.shop.shop_id, one.price, one.state, one.image_ids, title_of(one))
        for one in world.listings
    ]


def furniture(world):
    return [one for one in world.listings if one.findable and world.is_furniture(one)]


def times(world):
    """All times in the world, by what they belong to."""
    listings = [
        (one.created, one.original, one.updated, one.state_changed) for one in world.listings
    ]
    shops = [
        (shop.created, shop.updated, *(r.created for r in shop.book.all(world.reviewed_ids(shop))))
        for shop in world.shops.values()
    ]
    return [moment for group in (*listings, *shops) for moment in group]


def test_the_same_seed_makes_the_same_world():
    first = generate(Options(seed=3, shops=50, listings=500), NOON)
    again = generate(Options(seed=3, shops=50, listings=500), NOON + 60)
    assert (seen(first), times(first)) == (seen(again), times(again))
    assert seen(first) != seen(generate(Options(seed=4, shops=50, listings=500), NOON))


@pytest.mark.parametrize("days", [-7000, -1, 1, 160, 1808])
def test_on_another_day_the_same_seed_makes_the_same_world_so_many_days_older(days):
    options = Options(seed=3, shops=50, listings=500)
    first, other = generate(options, NOON), generate(options, NOON + days * DAY)
    assert seen(other) == seen(first)
    assert [moment - days * DAY for moment in times(other)] == times(first)


def test_ids_stand_on_both_sides_of_32_bits():
    ids = [one.listing_id for one in generate(Options(), NOON).listings]
    assert min(ids) > 0
    assert min(ids) < 2**32 < max(ids)


@pytest.mark.parametrize(("shops", "listings"), [(1, 1), (1, 40), (30, 10), (12, 0), (300, 3000)])
def test_the_number_of_findable_furniture_is_exact(shops, listings):
    assert len(furniture(generate(Options(shops=shops, listings=listings), NOON))) == listings


def test_giants():
    options = Options(shops=60, listings=3000, giant_shop=1300, giant_price=1500)
    found = furniture(generate(options, NOON))
    assert len(found) == 3000
    assert Counter(one.shop.shop_id for one in found).most_common(1)[0][1] == 1300
    same = [one for one in found if one.price.usd == 25.0 and one.taxonomy_id == 12371]
    assert len(same) >= 1500
    with pytest.raises(ValueError, match="giant"):
        Options(listings=10, giant_shop=11)


def test_shops_are_of_pareto_size_and_prices_pile_up():
    found = furniture(generate(Options(), NOON))
    sizes = sorted(Counter(one.shop.shop_id for one in found).values())
    assert sizes[-1] > 20 * sizes[len(sizes) // 2]
    prices = Counter(one.price.usd for one in found)
    assert prices.most_common(1)[0][1] > 50
    assert max(prices) > 8_800
    assert {one.price.divisor for one in found} == {1, 100}
    assert max(image for one in found for image in one.image_ids) > 2**32


def test_titles_are_as_odd_as_real_ones(steady):
    titles = [one["title"] for one in steady.pages("listings/active")]
    assert any("🪑" in title for title in titles)
    assert any("שולחן" in title for title in titles)
    assert any("&quot;" in title for title in titles)
    assert any(len(title) > 200 for title in titles)
    listings = steady.sandbox.truth_listings()
    assert any(not line["image_ids"] and line["findable"] for line in listings)


def test_the_full_truth_is_what_batch_says(steady):
    truth = steady.sandbox.truth_listings(full=True)
    api = {line["listing_id"]: line["api"] for line in truth if "api" in line}
    found = steady.batch(list(api))
    assert {one["listing_id"]: one for one in found} == api
    for line in truth:
        if "api" in line:
            assert line["price_amount"] == line["api"]["price"]["amount"]
            assert line["created"] == line["api"]["creation_timestamp"]
            assert line["views"] == line["api"]["views"]


# -- change ----------------------------------------------------------------------------------


def test_named_changes(bent):
    box = bent.sandbox
    shop = next(s for s in box.truth_shops() if s["findable"] and s["active"] > 3)["shop_id"]
    now = box.move_clock(1000)
    [made] = box.churn({"op": "create", "shop_id": shop, "n": 2, "taxonomy_id": 977, "images": 2})
    newest = bent.api("listings/active?limit=2&taxonomy_id=967").json["results"]
    assert {one["listing_id"] for one in newest} == set(made["listing_ids"])
    assert all(one["creation_timestamp"] >= int(now) for one in newest)
    first, second = made["listing_ids"]

    box.churn({"op": "end", "listing_ids": [first], "state": "sold_out"})
    box.churn({"op": "end", "listing_ids": [second], "state": "removed"})
    [left] = bent.batch([first, second])
    assert (left["listing_id"], left["state"], left["quantity"]) == (first, "sold_out", 0)
    line = next(line for line in box.truth_listings() if line["listing_id"] == second)
    assert line["state"] == "removed"
    assert line["ended_at"] >= now

    box.churn({"op": "bring_back", "listing_ids": [second]})
    box.churn({"op": "reprice", "listing_ids": [second], "amount": 4321})
    box.churn({"op": "edit", "listing_ids": [second], "fields": {"title": "New", "views": 9}})
    [old] = bent.batch([second], "&includes=Images")
    gone = old["images"][0]
    box.churn(
        {"op": "images", "listing_ids": [second], "add": 3, "drop": [gone["listing_image_id"]]}
    )
    [new] = bent.batch([second], "&includes=Images")
    assert (new["price"]["amount"], new["title"], new["views"]) == (4321, "New", 9)
    assert new["state"] == "active"
    assert len(new["images"]) == len(old["images"]) + 2
    assert bent.url(gone["url_570xN"]).status == 404
    assert bent.url(new["images"][-1]["url_570xN"]).status == 200


def test_changes_of_shops_and_reviews(bent):
    box = bent.sandbox
    shop = next(s for s in box.truth_shops() if s["findable"] and s["active"] > 3)
    number, path = shop["shop_id"], f"shops/{shop['shop_id']}"
    before = bent.api(path).json
    [written] = box.churn({"op": "add_reviews", "shop_id": number, "n": 3})
    assert len(written["transaction_ids"]) == 3
    assert bent.api(f"{path}/reviews").json["count"] == shop["reviews"] + 3
    after = bent.api(path).json
    assert (after["review_count"] or 0) == (before["review_count"] or 0) + 3
    box.churn({"op": "shop", "shop_id": number, "fields": {"searchable": False}})
    assert bent.api(f"{path}/listings/active").json["count"] == 0
    box.churn({"op": "shop", "shop_id": number, "fields": {"searchable": True, "gone": True}})
    assert bent.api(path).status == 404
    box.churn({"op": "shop", "shop_id": number, "fields": {"gone": False, "title": "Moved"}})
    assert bent.api(path).json["title"] == "Moved"
    assert bent.api(f"{path}/listings/active").json["count"] == shop["active"]


def test_churn_by_the_hour_follows_the_clock(bent):
    box = bent.sandbox
    before = {line["listing_id"]: line for line in box.truth_listings()}
    live = sum(line["findable"] for line in before.values())
    box.churn(per_hour=0.05)
    start = box.now()
    box.move_clock(4 * 3600)
    after = {line["listing_id"]: line for line in box.truth_listings()}
    changed = [i for i, line in after.items() if before.get(i) != line]
    assert 0.10 * live < len(changed) < 0.30 * live
    born = [line["born_at"] for i, line in after.items() if i not in before]
    assert born
    assert all(start - 1 <= at <= box.now() for at in born)
    assert max(born) - min(born) > 3600
    found = bent.pages("listings/active")
    listed = [line["listing_id"] for line in after.values() if line["findable"]]
    assert abs(len(found) - len(listed)) <= 2


def test_a_sandbox_begins_at_noon_and_takes_the_programs_along(bent):
    """Its `Date` on both servers and the clock of what is started on it tell the same time."""
    with SandboxProcess(listings=5, shops=2) as sandbox:
        asker, [image] = Asker(sandbox), sandbox.truth_images(digests=False)[:1]
        assert 0 <= sandbox.now() - NOON < 600
        sandbox.move_clock(40 * DAY)
        program = time.time() + float(sandbox.env["FURNISYNC_CLOCK_OFFSET_S"])
        assert abs(program - sandbox.now()) < 5
        sandbox.set_faults([{"do": "503", "nth": 2}])
        replies = [asker.api("openapi-ping"), asker.api("openapi-ping", key="wrong:wrong")]
        replies += [asker.api("openapi-ping"), asker.url(image["urls"]["570xN"])]
        assert [reply.status for reply in replies] == [200, 403, 503, 200]
        for reply in replies:
            sent = parsedate_to_datetime(reply.headers["date"]).timestamp()
            assert NOON + 40 * DAY <= sent <= sandbox.now()


def test_a_sandbox_of_the_present_leaves_the_clock_alone():
    with SandboxProcess(listings=5, shops=2, start_at=0) as sandbox:
        assert "FURNISYNC_CLOCK_OFFSET_S" not in sandbox.env
        assert abs(sandbox.now() - time.time()) < 60


def test_churn_by_the_request_shifts_lists(bent):
    bent.sandbox.churn(per_request=25)
    pages = [bent.api("listings/active?limit=100").json["results"] for _ in range(4)]
    assert len({json.dumps(page) for page in pages}) == 4


def test_churn_is_repeatable():
    def played():
        options = {**SMALL, "seed": 9, "churn_per_hour": 0.02}
        with SandboxProcess(**options) as box:
            box.move_clock(5 * 3600)
            lines = box.truth_listings()
        return [(ln["listing_id"], ln["state"], ln["price_amount"]) for ln in lines]

    first, second = played(), played()
    # The last moments differ, since real time runs too.
    assert abs(len(first) - len(second)) <= 2
    assert sum(a != b for a, b in zip(first, second, strict=False)) <= 3


def test_the_taxonomy_can_change(bent):
    bent.sandbox.add_node(99_999, "Hammocks", 989)
    assert b"Hammocks" in bent.api("seller-taxonomy/nodes").body
    bent.sandbox.drop_node(99_999)
    assert b"Hammocks" not in bent.api("seller-taxonomy/nodes").body
    with pytest.raises(SandboxError):
        bent.sandbox.drop_node(967)


# -- life ------------------------------------------------------------------------------------


def test_ready_file_and_printed_line_agree_and_sigterm_ends_it(tmp_path, monkeypatch):
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "furnisync.sandbox", "--listings", "20", "--shops", "3"]
    faults = tmp_path / "faults.json"
    faults.write_text('[{"do": "500", "nth": 1}]')
    command += ["--ready-file", str(ready), "--faults", str(faults)]
    path = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    printed = json.loads(process.stdout.readline())
    assert printed == json.loads(ready.read_text())
    assert set(printed) == {"api_url", "cdn_host", "api_key", "shared_secret", "pid"}
    assert printed["pid"] == process.pid
    url = f"{printed['api_url']}/openapi-ping"
    key = {"x-api-key": f"{printed['api_key']}:{printed['shared_secret']}"}
    asker = Asker(SandboxProcess())
    assert [asker.url(url, key).status for _ in range(2)] == [500, 200]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    process.stdout.close()


def test_a_sandbox_ends_with_its_parent(tmp_path):
    code = (
        "import sys, os; from furnisync.sandbox.process import SandboxProcess\n"
        "s = SandboxProcess(listings=5, shops=2).start(); print(s.pid, flush=True); os._exit(9)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the sandbox outlived its parent")


def test_bad_options_end_with_usage():
    for wrong in (["--listings", "5", "--giant-shop", "6"], ["--ties", "odd"], ["--shop", "x"]):
        with pytest.raises(SystemExit) as ended:
            parse_options(wrong)
        assert ended.value.code == 2


def test_env_and_kill():
    box = SandboxProcess(listings=5, shops=2).start()
    assert set(box.env) == {
        "ETSY_API_URL",
        "ETSY_CDN_HOSTS",
        "ETSY_API_KEY",
        "ETSY_SHARED_SECRET",
        "FURNISYNC_CLOCK_OFFSET_S",
    }
    box.kill()
    with pytest.raises(OSError, match="refused"):
        box.now()
