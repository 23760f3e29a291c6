"""The certificate never says complete where something is missing."""

from __future__ import annotations

import pytest
from coverage_world import SMALL, Home, check_exact, furniture

from furnisync.sandbox.process import SandboxProcess

BREAKS = (0, 30, 60.005, 200, 1_000_000)


@pytest.fixture
def home(tmp_path):
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox, api={"attempts": 2})
        home.write_plan(*BREAKS)
        yield home


def fail(home, **match):
    home.sandbox.set_faults(
        [{"where": "api", "call": "listings/active", "match": match, "do": "503"}]
    )


def verdicts(certificate):
    return [one["verdict"] for one in certificate["intervals"]]


def test_before_anything_was_read_it_says_so(home):
    ended = home.run("coverage", status=2)
    assert "Traceback" not in ended.errors


def test_line_by_line_over_a_world_that_stands_still(home):
    home.sync()
    certificate = home.coverage()
    check_exact(certificate, furniture(home.sandbox).values())
    assert certificate["complete"]
    assert certificate["total"].startswith("Complete: 4 of 4 price intervals complete; 300 ")
    shops = {one["shop_id"]: one for one in certificate["shops"]}
    assert all(one["listing_active_count"] is None for one in shops.values())
    home.run("data", "--fast")
    shops = {one["shop_id"]: one for one in home.coverage()["shops"]}
    for one in home.sandbox.truth_shops():
        if one["shop_id"] in shops and not one["gone"]:
            told = shops[one["shop_id"]]["listing_active_count"]
            assert told == one["api"]["listing_active_count"]
    assert "4 of 4" in home.run("coverage").out
    assert "4 of 4" in home.run("status").out


def test_a_missing_page_is_named_with_its_reason_and_found_later(home):
    fail(home, max_price="60.005")
    home.sync(status=1)
    certificate = home.coverage(status=1)
    assert verdicts(certificate) == ["complete", "failed", "complete", "complete"]
    assert not certificate["complete"]
    assert "503" in certificate["intervals"][1]["reason"]
    assert certificate["total"].startswith("NOT complete: 3 of 4")
    home.sandbox.set_faults([])
    home.sync()
    check_exact(home.coverage(), furniture(home.sandbox).values())


def test_until_what_changed_meanwhile_was_looked_at_it_is_not_complete(home):
    fail(home, sort_on="updated")
    home.sync(status=1)
    certificate = home.coverage(status=1)
    assert verdicts(certificate) == ["complete"] * 4
    assert not certificate["swept"]
    assert certificate["total"].startswith("NOT complete")
    assert "what changed meanwhile is not read yet" in certificate["total"]
    home.sandbox.set_faults([])
    home.sync()
    assert home.coverage()["complete"]


def test_a_stopped_plan_leaves_lines_that_are_not_read_yet(home):
    home.run("plan")
    certificate = home.coverage(status=1)
    assert set(verdicts(certificate)) <= {"not read yet"}
    assert not certificate["complete"]


def test_a_plan_that_etsy_does_not_answer_says_so(home):
    home.sandbox.set_faults([{"where": "api", "call": "listings/active", "do": "503"}])
    ended = home.run("plan", status=2)
    assert "try again later" in " ".join((ended.out + ended.errors).split())
    assert "Traceback" not in ended.errors
