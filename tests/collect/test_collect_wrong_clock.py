"""Our clock is wrong, or was: nothing is written under it, and what it wrote once does no harm.

`no_date` stands for the versions before this one, which no answer could tell.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from support import moving_clock
from support.collect_world import DAY, TABLES, Truth, no_calls, read_reviews, true_reviews

from furnisync.analysis.frames import asof, panel
from furnisync.clock import OFFSET_VARIABLE
from furnisync.history.clock_repair import MARKS
from furnisync.history.schema import MIGRATIONS

YEARS = 3650 * DAY
PING = "openapi-ping"
NO_DATE = [{"where": "api", "do": "no_date"}]
MOVING_CLOCK = str(Path(moving_clock.__file__))


def furnisync(home, *arguments, status=0):
    ended = home.start(*arguments, command=("-m", "furnisync")).wait()
    assert ended.status == status, ended.out
    return " ".join(ended.out.split())


def picture(home):
    ended = home.start("status", "--json", command=("-m", "furnisync")).wait()
    return json.loads(ended.out)


def rows_of(home):
    return sum(home.counts().values())


def sync_years_ahead(home, sandbox):
    """One whole sync under a clock that is ten years ahead, which nothing tells of."""
    sandbox.set_faults(NO_DATE)
    home.env[OFFSET_VARIABLE] = str(YEARS)
    home.sync()
    del home.env[OFFSET_VARIABLE]
    sandbox.set_faults([])


@pytest.fixture
def patient(bent_home):
    """A home whose runs wait a second for their clock."""
    bent_home.configure(api={"timeout_s": 1.0, "clock_patience_s": 1.0})
    seeded = bent_home.path / "catalog.db"
    with closing(sqlite3.connect(seeded)) as catalog:  # image sync has never run here
        catalog.execute("UPDATE listings SET batch_due = NULL")
        catalog.commit()
    return bent_home


# -- it was wrong -------------------------------------------------------------------------------


def test_ten_years_ahead_once_and_then_right(bent_home, bent):
    sync_years_ahead(bent_home, bent)
    truth = Truth(bent)
    alive = {i for i, shop in truth.shops.items() if not shop["gone"]}
    assert picture(bent_home)["data"]["ahead"] == len(alive)
    told = " ".join(bent_home.start("status", command=("-m", "furnisync")).wait().out.split())
    assert "kept" not in told
    assert f"{len(alive)} shops have times ahead of now" in told

    ended = bent_home.sync()
    assert "had times ahead of now" in ended.out
    limit = bent.now() + 600
    for kind, key in (("listings", "listing_id"), ("shops", "shop_id")):
        latest = bent_home.rows(f"SELECT {key}, snapshot_timestamp FROM {kind}_latest")
        shown = {row["listing_id"] for row in truth.listings.values() if row["findable"]}
        assert {one for one, _ in latest} >= (shown if kind == "listings" else alive)
        assert max(at for _, at in latest) < limit
        every = [limit, limit + YEARS, limit + 2 * YEARS]
        for frame in (asof(bent_home.path, kind, every[-1]), panel(bent_home.path, kind, every)):
            assert frame["snapshot_timestamp"].max() < limit
            assert frame["static_timestamp"].null_count() == 0
    assert read_reviews(bent_home) == true_reviews(truth, alive), "none twice, none missing"
    assert picture(bent_home)["data"]["ahead"] == 0
    with no_calls(bent):
        bent_home.sync()


def test_the_doctor_finds_and_repairs_what_a_wrong_clock_wrote(bent_home, bent):
    sync_years_ahead(bent_home, bent)
    before = bent_home.counts()
    checks = {
        one["name"]: one for one in json.loads(furnisync(bent_home, "doctor", "--json", status=0))
    }
    found = checks["times in etsy_data.db"]
    assert found["verdict"] == "warn"
    assert "--repair-clock" in found["remedy"]

    bent_home.env[OFFSET_VARIABLE] = str(-5 * DAY)
    told = furnisync(bent_home, "doctor", "--repair-clock", status=2)
    assert "The clock is 5 days behind Etsy's" in told
    assert not bent_home.rows("SELECT 1 FROM listings_dynamic WHERE wrong_clock = 1")

    del bent_home.env[OFFSET_VARIABLE]
    told = furnisync(bent_home, "doctor", "--repair-clock")
    assert "none is ahead of now" in told
    for table in TABLES:
        [(marked,)] = bent_home.rows(f"SELECT count(*) FROM {table} WHERE wrong_clock = 1")
        assert marked == before[table]
    assert bent_home.counts() == before, "nothing is deleted"
    assert bent_home.rows("SELECT 1 FROM listings_latest") == []
    bent_home.sync()
    assert bent_home.rows("SELECT count(*) FROM shops_latest")[0][0] > 0


def test_a_history_of_the_version_before_is_migrated_and_read(bent_home, bent):
    """Views and frames work before the migration, too: a reader never migrates."""
    bent_home.sync()
    with closing(sqlite3.connect(bent_home.history)) as history:
        views = ("shops_latest", "listings_latest")
        for view in views:
            history.execute(f"DROP VIEW {view}")
        for table in TABLES:
            history.execute(f"ALTER TABLE {table} DROP COLUMN wrong_clock")
        for table in ("set_aside", "outbox_cursor", "arrived_shops"):
            history.execute(f"DROP TABLE {table}")
        for column in ("fresh_after", "reused", "shop_at"):
            history.execute(f"ALTER TABLE work_shops DROP COLUMN {column}")
        history.execute(f"PRAGMA user_version = {MIGRATIONS.index(MARKS)}")
        history.commit()
    rows = bent_home.counts()["shops_dynamic"]
    assert len(asof(bent_home.path, "shops", bent.now() + 600)) == rows
    bent_home.sync()
    assert len(bent_home.rows("SELECT wrong_clock FROM shops_dynamic")) == rows
    assert len(bent_home.rows("SELECT 1 FROM shops_latest")) == rows


# -- it is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong_s", [YEARS, -YEARS, 3 * 3600.0])
def test_hours_off_writes_nothing_and_says_so(patient, bent, wrong_s):
    patient.env[OFFSET_VARIABLE] = str(wrong_s)
    ended = patient.start("--fast").wait()
    assert ended.status == 1, ended.out
    assert "Etsy's: nothing is written until it agrees" in ended.out
    assert rows_of(patient) == 0
    assert patient.rows("SELECT * FROM work_shops") == []
    assert set(bent.asked()["calls"]) == {PING}
    clock = picture(patient)["quota"]["clock"]
    assert abs(clock["behind_s"] + wrong_s) < 60
    assert abs(clock["since"] - bent.now()) < 600, "by Etsy's clock"
    del patient.env[OFFSET_VARIABLE]
    told = furnisync(patient, "status", status=0)
    assert "no calls and no history until the clocks agree" in told
    told = furnisync(patient, "notices", "check")
    assert "No calls are made and no history is written" in told
    patient.sync()
    assert picture(patient)["quota"]["clock"] is None
    assert "clock" not in furnisync(patient, "notices", "check")


def test_a_clock_that_is_behind_is_noticed_though_nothing_is_due(patient, bent):
    patient.sync()
    before = rows_of(patient)
    patient.env[OFFSET_VARIABLE] = str(-YEARS)
    ended = patient.start("--fast").wait()
    assert ended.status == 1, ended.out
    assert "behind Etsy's" in ended.out
    assert rows_of(patient) == before
    assert not patient.rows("SELECT 1 FROM listings_dynamic WHERE wrong_clock = 1")
    del patient.env[OFFSET_VARIABLE]
    with no_calls(bent):
        patient.sync()


def test_retention_purges_nothing_under_a_clock_that_is_ahead(patient, bent):
    patient.sync()
    before = patient.counts()
    patient.configure(
        api={"timeout_s": 1.0, "clock_patience_s": 1.0}, data={"retention_days": 30.0}
    )
    for job in ("data", "images"):
        patient.env[OFFSET_VARIABLE] = str(YEARS)
        ended = patient.start(job, "--fast", command=("-m", "furnisync")).wait()
        assert ended.status == 1, ended.out
    told = furnisync(patient, "purge", "--older-than", "30", "--yes", status=2)
    assert "the age of data is not known" in told
    assert patient.counts() == before
    del patient.env[OFFSET_VARIABLE]
    bent.set_faults(NO_DATE)
    assert "no answer has a Date" in patient.sync().out
    assert patient.counts() == before


def test_minutes_off_is_a_warning(bent_home):
    bent_home.env[OFFSET_VARIABLE] = str(300.0)
    ended = bent_home.sync()
    assert ended.out.count("5 minutes ahead of Etsy's: let the computer") == 1
    told = " ".join(bent_home.start("status", command=("-m", "furnisync")).wait().out.split())
    assert "5 minutes ahead of Etsy's, seen since" in told
    assert "no calls" not in told
    assert "The clock is 5 minutes ahead" in furnisync(bent_home, "notices", "check")
    bent_home.sync()


@pytest.mark.parametrize("seconds", [-YEARS, YEARS])
def test_odd_dates_now_and_then_stop_nothing(patient, bent, seconds):
    bent.set_faults(
        [
            {"where": "api", "call": call, "share": 0.4, "do": "odd_date", "seconds": seconds}
            for call in ("listings/batch", "shops/{shop_id}/listings/active")
        ]
    )
    ended = patient.sync()
    assert "nothing is written" not in ended.out
    assert max(at for (at,) in patient.rows("SELECT snapshot_timestamp FROM shops_dynamic")) < (
        bent.now() + 600
    )


# -- it is set while a sync runs ----------------------------------------------------------------


def is_still(sandbox, home, for_s=2.0):
    """Whether no call is spent and no row written for some seconds; those in flight may end."""
    before = sandbox.asked()["total"], rows_of(home)
    time.sleep(for_s)
    return (sandbox.asked()["total"], rows_of(home)) == before


def test_a_clock_that_jumps_while_a_sync_runs(bent_home, bent, tmp_path):
    """Years ahead in the middle, and right again: it pauses, goes on by itself, paces as before."""
    offset = tmp_path / "offset"

    def set_clock(seconds):
        beside = tmp_path / "beside"
        beside.write_text(f"{seconds}\n")
        beside.replace(offset)

    set_clock(0)
    bent_home.configure(api={"timeout_s": 5.0}, quota={"fast_per_second": 8.0})
    run = bent_home.start(str(offset), "data", "--fast", command=[MOVING_CLOCK])
    run.until(lambda: bent.asked()["total"] >= 6)
    set_clock(YEARS)
    run.until(lambda: "days ahead of Etsy's: nothing is written" in run.words)
    run.until(lambda: is_still(bent, bent_home))
    set_clock(0)
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert "the clock agrees with Etsy's again" in ended.out
    assert bent.asked()["most_in_a_second"] <= 12, "a jump frees no burst"
    limit = bent.now() + 600
    for table in TABLES:
        assert bent_home.number(f"SELECT max(snapshot_timestamp) FROM {table}") < limit
    truth = Truth(bent)
    alive = [i for i, shop in truth.shops.items() if not shop["gone"]]
    assert read_reviews(bent_home) == true_reviews(truth, alive)
