"""Image sync under a clock that is hours off: no time of the future is written, no call spent."""

from __future__ import annotations

import pytest
from support.processes import DAY_S
from support.sync_world import Home, check_complete, no_questions

from furnisync.clock import OFFSET_VARIABLE

YEARS = 3650 * DAY_S
PATIENCE = {"timeout_s": 1.0, "clock_patience_s": 1.0}
TIMES = (
    "SELECT max(done_at) FROM images",
    "SELECT max(next_try) FROM images",
    "SELECT max(batch_due) FROM listings",
    "SELECT max(synced_at) FROM shops",
    "SELECT max(started_at) FROM passes",
    "SELECT max(at) FROM events",
    "SELECT max(CAST(value AS INTEGER)) FROM meta WHERE key LIKE '%_at' OR key LIKE '%_since'",
)


def latest(home):
    return max(home.number(sql) for sql in TIMES)


@pytest.mark.parametrize("wrong_s", [YEARS, -YEARS])
def test_a_first_run_under_a_wrong_clock(tmp_path, bent, wrong_s):
    home = Home(tmp_path / "home", bent, api=PATIENCE)
    home.env[OFFSET_VARIABLE] = str(wrong_s)
    ended = home.sync("--fast")
    assert ended.status == 1, ended.out
    assert "Etsy's: nothing is written until it agrees" in ended.out
    assert home.number("SELECT count(*) FROM listings") == 0
    assert bent.asked()["calls"].keys() <= {"openapi-ping", "seller-taxonomy/nodes"}
    del home.env[OFFSET_VARIABLE]
    assert home.sync("--fast").status == 0
    check_complete(home)
    assert latest(home) < bent.now() + 40 * DAY_S


def test_images_that_wait_are_downloaded_with_etsy_s_time(tmp_path, bent):
    """Downloads ask no API: they go on, and their times are true once the clock was compared."""
    slow = {"images": {"fast_per_second": 15.0}, "api": {"timeout_s": 1.0}}
    home = Home(tmp_path / "home", bent, **slow)
    done = "SELECT count(*) FROM images WHERE done_at < ?"
    run = home.start("--fast")
    run.until(lambda: home.number("SELECT count(*) FROM images") > 400)
    run.kill()
    home.env[OFFSET_VARIABLE] = str(YEARS)
    run = home.start("--fast", "--reset-shops")
    run.until(lambda: "ahead of Etsy's: nothing is written" in run.words)
    before = home.number(done, bent.now() + DAY_S)
    run.until(lambda: home.number(done, bent.now() + DAY_S) > before + 20)
    run.kill()
    del home.env[OFFSET_VARIABLE]
    home.configure(api={"timeout_s": 1.0})
    assert home.sync("--fast").status == 0
    check_complete(home)
    assert latest(home) < bent.now() + 40 * DAY_S
    assert home.number("SELECT max(done_at) FROM images") < bent.now() + DAY_S


def test_a_clock_that_is_behind_loses_no_times(tmp_path, bent):
    """All times lie ahead of it; to repair them then would cost a month's calls."""
    home = Home(tmp_path / "home", bent, api=PATIENCE)
    assert home.sync("--fast").status == 0
    kept = "SELECT started_at, finished_at, complete FROM passes UNION ALL SELECT"
    kept += " max(batch_due), max(batched_at), 0 FROM listings"
    before = home.rows(kept)
    home.env[OFFSET_VARIABLE] = str(-YEARS)
    ended = home.sync("--fast")
    assert ended.status == 1, ended.out
    assert home.rows(kept) == before
    del home.env[OFFSET_VARIABLE]
    with no_questions(bent):
        assert home.sync("--fast").status == 0
