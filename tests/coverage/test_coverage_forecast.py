"""When the work will be done, where the day's calls went, and a limit that falls."""

from __future__ import annotations

import math
import time
from collections import Counter

from coverage_world import SMALL, Home
from hypothesis import given
from hypothesis import strategies as st

from furnisync.quota.ledger import QuotaState
from furnisync.sandbox.process import SandboxProcess
from furnisync.status.eta import DAY_S, seconds_for_calls

PURPOSES = {
    "listings/active": "discovery",
    "listings/batch": "batch",
    "shops/{shop_id}/listings/active": "shops",
    "shops/{shop_id}": "shops",
    "shops/{shop_id}/reviews": "reviews",
    "seller-taxonomy/nodes": "probe",
    "openapi-ping": "probe",
}


def test_calls_by_purpose_are_those_that_arrived(tmp_path):
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        sandbox.set_faults([{"where": "api", "every": 9, "do": "503"}])
        home.sync("--every-shop")
        home.run("data", "--fast")
        arrived: Counter[str] = Counter()
        for name, statuses in sandbox.asked()["calls"].items():
            arrived[PURPOSES[name]] += sum(statuses.values())
        booked: Counter[str] = Counter()
        for one in home.status()["quota"]["usage"]:
            booked[one["purpose"]] += one["last_day"]
        assert booked == arrived
        assert set(booked) == {"discovery", "batch", "shops", "reviews", "probe"}
        said = home.run("status").out
        assert "Calls by purpose" in said


def test_a_limit_that_changes_is_told_once_and_forecast_anew(tmp_path):
    with SandboxProcess(**{**SMALL, "shops": 60, "listings": 3_000, "qpd": 5_000}) as sandbox:
        home = Home(tmp_path / "home", sandbox, quota={"slow_per_second": 2.0})
        running = home.start("images", "--slow")
        try:
            plenty = wait_for(lambda: told(home))
            assert plenty["seconds_left"] >= plenty["calls_left"] / 2.0 - 2
            sandbox.set_limits(qpd=12)
            scarce = wait_for(lambda: told(home, limit=12))
            assert scarce["seconds_left"] > 2 * DAY_S
            sandbox.set_limits(qpd=100_000)
        finally:
            running.terminate()
            running.wait()
        lines = [one["message"] for one in scarce["events"] if "limit" in one["message"]]
        assert lines == ["Etsy lowered the limit per day from 5,000 to 12"]


def told(home, limit=5_000):
    """The status once it tells the time to the end at this limit."""
    if not (home.path / "catalog.db").exists():
        return None
    status = home.status()
    known = status["quota"] is not None and status["quota"]["limit_per_day"] == limit
    return status if known and status["seconds_left"] and status["calls_left"] else None


def wait_for(look, seconds=60.0):
    end = time.monotonic() + seconds
    while (found := look()) is None:
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


QUOTAS = st.builds(
    QuotaState,
    limit_per_day=st.none() | st.integers(1, 100_000),
    remaining_today=st.none() | st.integers(0, 100_000),
    reserve=st.integers(0, 1_000),
    rate_per_second=st.floats(0, 100),
)
CALLS = st.integers(0, 1_000_000)


@given(CALLS, QUOTAS, st.floats(0.01, 1))
def test_a_forecast_is_a_time_or_not_known(calls, quota, share):
    seconds = seconds_for_calls(calls, quota, share)
    if seconds is None:
        assert quota.limit_per_day is None
        assert not quota.rate_per_second
    else:
        assert math.isfinite(seconds)
        assert seconds >= 0
        assert (seconds == 0) == (calls == 0)


@given(CALLS, CALLS, QUOTAS)
def test_more_calls_take_longer(one, other, quota):
    few, many = sorted((one, other))
    soon, late = seconds_for_calls(few, quota), seconds_for_calls(many, quota)
    if soon is not None and late is not None:
        assert soon <= late * (1 + 1e-9) + 1e-6


@given(CALLS, st.integers(1, 100_000), st.integers(1, 100_000), st.floats(0.1, 100))
def test_a_lower_limit_takes_longer(calls, one, other, rate):
    low, high = sorted((one, other))

    def under(limit):
        quota = QuotaState(limit_per_day=limit, remaining_today=limit, rate_per_second=rate)
        return seconds_for_calls(calls, quota)

    # A call at the day's rate is never sooner than one at the rate of now, within a day's limit.
    if high <= rate * DAY_S:
        assert under(low) >= under(high) * (1 - 1e-9)


def test_nothing_is_known_without_a_quota():
    assert seconds_for_calls(1, None) is None
    assert seconds_for_calls(0, None) == 0


def test_what_is_left_of_the_day_comes_first_and_the_rest_by_days():
    quota = QuotaState(limit_per_day=5_000, remaining_today=1_050, reserve=50, rate_per_second=1.0)
    assert seconds_for_calls(1_000, quota) == 1_000
    assert seconds_for_calls(1_000 + 4_950, quota) == 1_000 + DAY_S
    half = seconds_for_calls(1_000 + 4_950, quota, share=0.5)
    assert half == 500 / 0.5 + 5_450 / 2_475 * DAY_S
