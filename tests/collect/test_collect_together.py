"""Both programs in one home, and a reader of the history while it is written."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import suppress

import pytest
from support.collect_world import (
    Home,
    Truth,
    check_truth_of_answers,
    content,
    ended_at_last,
    known_furniture,
    read_reviews,
    seed_catalog,
    small_sandbox,
    true_reviews,
)
from support.processes import Run, until


def check_both(tmp_path, world, *, share: bool) -> None:
    qps = world["qps"]
    with small_sandbox(**world) as sandbox:
        home = Home(tmp_path / "home", sandbox, quota={"fast_per_second": 90.0})
        seed_catalog(home, sandbox)
        images, data = home.images("--fast", "--every-shop"), home.start("--fast")
        with ended_at_last(images), ended_at_last(data):
            calls = watch_calls(home, images, data)
            for run in (images, data):
                ended = run.wait(240)
                assert ended.status == 0, ended.out
        asked = sandbox.asked(log=True)
        assert asked["refused"] == 0
        assert asked["most_in_a_second"] <= qps
        truth = Truth(sandbox)
        alive = [i for i, shop in truth.shops.items() if not shop["gone"]]
        assert read_reviews(home) == true_reviews(truth, alive)
        check_truth_of_answers(home, truth, asked["log"], known=known_furniture(truth))
        images_done = "SELECT count(*) FROM images WHERE status = 'done'"
        findable = sum(row["findable"] for row in sandbox.truth_images(digests=False))
        assert home.rows(images_done, name="catalog.db")[0][0] >= findable
        if share:
            check_share(calls)


def watch_calls(home: Home, *runs: Run) -> list[tuple[int, int]]:
    """Calls of image sync and data sync so far, by the ledger, each time one was added."""
    seen = [(0, 0)]

    def look() -> bool:
        calls = Counter()
        with suppress(sqlite3.OperationalError):  # the ledger is being made
            sql = "SELECT program, sum(calls) FROM usage GROUP BY program"
            calls = Counter(dict(home.rows(sql, name="quota.db")))
        if (now := (calls["images"], calls["data"])) != seen[-1]:
            seen.append(now)
        return any(run.process.poll() is not None for run in runs)

    until(look)
    return seen


def check_share(calls: list[tuple[int, int]]) -> None:
    """While both want calls, image sync has about its 60 %: from the first of both to the last."""
    both = [one for one in calls if all(one)]
    last = [
        min(n for n, one in enumerate(both) if one[which] == both[-1][which]) for which in (0, 1)
    ]
    (first_images, first_data), (images, data) = both[0], both[min(last)]
    images, data = images - first_images, data - first_data
    assert images + data > 80, "too little to tell a share"
    assert 0.45 < images / (images + data) < 0.75, (images, data)


def test_both_programs_at_once(tmp_path):
    check_both(tmp_path, {"qps": 30, "qpd": 100_000, "shops": 20, "listings": 300}, share=False)


@pytest.mark.slow
def test_both_programs_share_as_configured(tmp_path):
    world = {"qps": 25, "qpd": 100_000, "shops": 40, "listings": 10_000, "reviews_mean": 800}
    check_both(tmp_path, world, share=True)


def test_data_sync_begins_before_image_sync_has_found_anything(tmp_path):
    """A catalog that is just being made is none yet: one sentence, and later it works."""
    with small_sandbox() as sandbox:
        home = Home(tmp_path / "home", sandbox)
        (home.path / "catalog.db").touch()
        ended = home.start("--fast").wait()
        assert ended.status == 2, ended.out
        assert "sync_images.py" in ended.out
        assert "Traceback" not in ended.out
        (home.path / "catalog.db").unlink()
        assert home.images("--fast").wait().status == 0
        home.sync()
        truth = Truth(sandbox)
        stored = {row[0] for row in home.rows("SELECT listing_id FROM listings")}
        assert {r["listing_id"] for r in truth.listings.values() if r["findable"]} >= stored
        furniture = {i for ids in known_furniture(truth).values() for i in ids}
        findable = {i for i in furniture if truth.listings[i]["findable"]}
        assert findable <= stored


SEEN = """
SELECT s.shop_id, s.snapshot_timestamp, s.listing_active_count,
    (SELECT count(*) FROM listings l JOIN listings_dynamic d USING (listing_id, snapshot_timestamp)
     WHERE l.shop_id = s.shop_id AND l.snapshot_timestamp = s.snapshot_timestamp),
    (SELECT last_sync FROM sync_state t WHERE t.shop_id = s.shop_id)
FROM shops_dynamic s"""
LOOSE = """
SELECT count(*) FROM listings l WHERE NOT EXISTS (
    SELECT 1 FROM shops_dynamic s
    WHERE s.shop_id = l.shop_id AND s.snapshot_timestamp = l.snapshot_timestamp)"""


def test_a_reader_never_sees_half_a_shop_and_never_waits(tmp_path):
    """A plain connection with no patience at all reads the whole time."""
    with small_sandbox(shops=12, listings=1500, latency_ms=10) as sandbox:
        home = Home(tmp_path / "home", sandbox, api={"connections": 4})
        seed_catalog(home, sandbox)
        seen: set[tuple[int, ...]] = set()
        run = home.start("--fast")
        with ended_at_last(run):
            run.until(lambda: home.number("SELECT count(*) FROM sync_state"))
            reader = sqlite3.connect(f"file:{home.history}?mode=ro", uri=True, timeout=0)
            looks = 0
            while run.process.poll() is None:
                with reader:
                    reader.execute("BEGIN")
                    seen |= set(reader.execute(SEEN))
                    assert reader.execute(LOOSE).fetchone() == (0,)
                looks += 1
            assert run.wait().status == 0, run.words
            assert "locked" not in run.words
        assert looks > 10
        final = set(reader.execute(SEEN))
        reader.close()
        assert seen <= final
        assert any(row[3] > 100 for row in final)


def test_a_reader_that_holds_on_does_not_hold_up_the_sync(home, steady):
    """An open read transaction sees one moment; the sync goes on beside it."""
    home.sync("--fast", "--top", "2")
    reader = sqlite3.connect(f"file:{home.history}?mode=ro", uri=True, timeout=0)
    reader.execute("BEGIN")
    before = reader.execute("SELECT count(*) FROM shops").fetchone()
    home.sync()
    assert reader.execute("SELECT count(*) FROM shops").fetchone() == before == (2,)
    reader.close()
    assert len(content(home)["shops"]) > 2
