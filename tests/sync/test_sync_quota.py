"""The day that is spent, the limit that falls, the two processes that share."""

from __future__ import annotations

import pytest
from support.sync_world import Home, check_complete, check_images, findable, served, small_sandbox


def most_in_a_second(sandbox) -> int:
    times = sorted(entry["time"] for entry in sandbox.asked(log=True)["log"])
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_two_processes_of_a_home_share_the_limit(tmp_path):
    with small_sandbox(listings=500, qps=10) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        runs = [home.start("--fast"), home.start("--fast", "--test")]
        for run in runs:
            ended = run.wait()
            assert ended.status == 0, ended.out
        check_complete(home)
        assert len(home.files("images_test")) == len(served(sandbox))
        asked = sandbox.asked()
        # Calls that leave evenly may arrive in bunches on a machine that is busy.
        assert asked["refused"] <= 2
        assert most_in_a_second(sandbox) <= 10 + 2
        assert asked["total"] <= 2 * (1 + 7 + 5) + asked["refused"]


def test_limit_that_falls_is_told_at_once_and_once(tmp_path):
    with small_sandbox(listings=1200, images_mean=1, qps=20, qpd=10_000) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        run = home.start("--fast")
        run.until(lambda: sandbox.asked()["total"] >= 6)
        sandbox.set_limits(qps=8, qpd=5_000)
        ended = run.wait()
        assert ended.status == 0, ended.out
        assert ended.out.count("WARNING Etsy lowered the limit per second from 20 to 8") == 1
        assert ended.out.count("WARNING Etsy lowered the limit per day from 10,000 to 5,000") == 1
        check_complete(home)


@pytest.mark.slow
def test_spent_day_waits_says_until_when_and_goes_on(tmp_path):
    world = {"listings": 3000, "shops": 100, "images_mean": 1}
    with small_sandbox(**world, qps=50, qpd=40, day_seconds=48) as sandbox:
        home = Home(tmp_path / "home", sandbox, quota={"reserve_percent": 5.0})
        run = home.start("--fast")
        run.until(lambda: "waiting until" in run.words)
        status = home.status()
        assert status["quota"]["waiting_until"] is not None
        assert "the day's calls are spent" in status["quota"]["waiting_why"]
        assert "waiting until" in home.run("status").out
        ended = run.wait(280)
        assert ended.status == 0, ended.out
        check_complete(home)
        assert sandbox.asked()["refused"] <= 1


def test_spent_day_is_left_at_once_by_a_signal(tmp_path):
    with small_sandbox(listings=300, images_mean=1, qps=50, qpd=5, day_seconds=3600) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        run = home.start("--fast")
        run.until(lambda: "waiting until" in run.words)
        run.process.terminate()
        ended = run.wait(10)
        assert ended.status == 0, ended.out
        assert "Stopped" in ended.out


@pytest.mark.slow
def test_fast_mode_uses_nearly_all_that_is_allowed(tmp_path):
    world = {"listings": 11_000, "shops": 200, "images_mean": 1}
    with small_sandbox(**world, qps=100, latency_ms=150) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.env["ETSY_CDN_HOSTS"] = "no.images.here"
        ended = home.sync("--fast", timeout_s=120)
        assert {row[0] for row in home.rows("SELECT listing_id FROM listings")} == findable(sandbox)
        asked = sandbox.asked(log=True)
        assert asked["refused"] == 0
        assert most_in_a_second(sandbox) <= 100, ended.out
        check_images(home, [])
