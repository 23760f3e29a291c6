"""One pass under everything at once, compared with the sandbox's truth line by line."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from coverage_world import (
    TINY_IMAGES,
    Home,
    calls,
    calls_of,
    furniture,
    inside,
)

from furnisync.sandbox.process import SandboxProcess

LISTINGS = 40_000
DAY_OF_60_S = {"qpd": 400, "day_seconds": 60}
"""The pass takes several such days."""
CHANGES_AN_HOUR = 0.6
"""As fast as those days: in 24 hours a hundredth of the listings would change each hour."""
FAULTS = [
    {"where": "api", "share": share, "do": what}
    for what, share in (("503", 0.008), ("reset", 0.004), ("malformed_json", 0.004), ("500", 0.004))
]


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """(home, what was there before, what after, calls, days that ran out)."""
    with SandboxProcess(
        shops=400,
        listings=LISTINGS,
        giant_shop=12_600,
        giant_price=15_000,
        reviews_mean=1,
        qps=100,
        **DAY_OF_60_S,
        **TINY_IMAGES,
    ) as sandbox:
        home = Home(tmp_path_factory.mktemp("pass"), sandbox, images={"which": "primary"})
        before = furniture(sandbox)
        sandbox.set_faults(FAULTS)
        sandbox.churn(per_hour=CHANGES_AN_HOUR)
        home.sync(timeout_s=330)
        sandbox.churn(per_hour=0)
        after = {row["listing_id"]: row for row in sandbox.truth_listings()}
        yield home, before, after, calls(sandbox)


def stable(before, after):
    """Listings that nobody touched during the pass."""
    return {
        one: row
        for one, row in before.items()
        if after[one]["findable"] and after[one]["updated"] == row["updated"]
    }


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_everything_that_lasted_is_found_at_few_calls(passed):
    home, before, after, number = passed
    lasted = {one for one in before if after[one]["findable"]}
    found = home.ids("SELECT listing_id FROM listings WHERE last_listed IS NOT NULL")
    assert not lasted - found
    assert number / LISTINGS * 1000 < 25
    touched = len(before) - len(stable(before, after))
    assert touched > 300, "the lists hardly shifted"
    days = home.rows("SELECT count(*) FROM events WHERE kind = 'spent'", name="quota.db")
    assert days[0][0] >= 2
    assert not home.rows("SELECT 1 FROM intervals WHERE state IN ('pending', 'failed')")


@pytest.mark.slow
def test_the_certificate_agrees_with_the_truth_line_by_line(passed):
    home, before, after, _ = passed
    certificate = home.coverage()
    assert certificate["complete"]
    assert certificate["out_of_reach"] == 0
    began, ended = certificate["started_at"], certificate["finished_at"]
    assert began <= ended
    untouched = stable(before, after)
    touched = [row for one, row in after.items() if one not in untouched]
    seen = home.ids("SELECT listing_id FROM listings WHERE pass_id = ?", certificate["pass_id"])
    lines = certificate["intervals"]
    assert sum(line["count"] > 12_100 for line in lines) == 1
    for line, following in itertools.pairwise(lines):
        assert line["high"] == following["low"]
    assert lines[0]["low"] is None
    assert lines[-1]["high"] is None
    for line in lines:
        inner = {one for one, row in untouched.items() if inside(line, row)}
        assert line["verdict"] == "complete", line
        assert inner <= seen
        # What changed meanwhile may stand on either side: created, ended, renewed, repriced.
        odd = sum(inside(line, before.get(row["listing_id"], row)) or inside(line, row)
                  for row in touched)  # fmt: skip
        assert len(inner) <= line["found"] <= len(inner) + odd
        assert len(inner) - odd <= line["count"] <= len(inner) + odd
        assert line["short"] == max(0, line["count"] - line["found"])
        assert began <= line["at"] <= ended
    assert certificate["total"].startswith(f"Complete: {len(lines)} of {len(lines)} price")


@pytest.mark.slow
def test_each_shop_is_told_with_what_it_sells(passed):
    home, _, after, _ = passed
    told = {one["shop_id"]: one for one in home.coverage()["shops"]}
    truth = Counter(
        row["shop_id"] for row in after.values() if row["findable"] and row["is_furniture"]
    )
    assert truth.keys() <= told.keys()
    known = dict(home.rows("SELECT shop_id, count(*) FROM listings WHERE state = 'active'"
                           " GROUP BY shop_id"))  # fmt: skip
    assert {one: told[one]["furniture"] for one in told} == {one: known.get(one, 0) for one in told}
    giant, most = truth.most_common(1)[0]
    assert most > 12_100
    assert abs(told[giant]["furniture"] - most) < 0.05 * most
    assert all(one["synced_at"] is not None for one in told.values())
    assert not calls_of(home.sandbox, "shops/{shop_id}/listings/active")
