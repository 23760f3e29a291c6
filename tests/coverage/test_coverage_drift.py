"""What the API sends against what it used to send and what we keep: once a week, told once."""

from __future__ import annotations

import pytest
from coverage_world import SMALL, Home

from furnisync.history.fields.schema_drift import (
    ENOUGH,
    WEEK_S,
    FieldWatch,
    read_drift,
    record_drift,
)
from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history
from furnisync.sandbox.process import SandboxProcess

SELECTION = Selection.of(("shop_name",), ("title", "views", "tags"), ("rating", "review"))
BARE = {"title": "a", "tags": ["x"], "listing_id": 1, "shop_id": 2, "state": "active"}
PLAIN = {**BARE, "views": 3}
NOW = 1_800_000_000.0


@pytest.fixture
def history(tmp_path):
    connection = open_history(tmp_path / "etsy_data.db", SELECTION)
    yield connection
    connection.close()


def run(history, now, *objects, number=ENOUGH, watch=None):
    watch = watch or FieldWatch()
    for _ in range(number):
        watch.look("listings", objects)
    with history:
        return record_drift(history, watch, SELECTION, now)


def test_the_first_comparison_tells_only_what_is_missing(history):
    assert run(history, NOW, PLAIN) == []
    assert read_drift(history) == []


def test_a_selected_field_that_never_came_is_told(history):
    told = run(history, NOW, BARE)
    assert told == ["Etsy no longer sends the field views of listings, which is stored here"]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({**PLAIN, "colour": "red"}, "Etsy sends a new field of listings: colour (text)"),
        ({**PLAIN, "colour": None}, "Etsy sends a new field of listings: colour (null)"),
        ({**PLAIN, "views": "3"}, "Etsy sends views of listings as text now, before as number"),
        (BARE, "Etsy no longer sends the field views of listings, which is stored here"),
    ],
)  # fmt: skip
def test_a_change_is_told_once(history, sent, words):
    run(history, NOW, PLAIN)
    assert run(history, NOW + WEEK_S, sent) == [words]
    assert run(history, NOW + 2 * WEEK_S, sent) == []
    assert [message for _, message in read_drift(history)] == [words]


def test_a_field_that_returns_is_news_again(history):
    run(history, NOW, PLAIN)
    run(history, NOW + WEEK_S, BARE)
    told = run(history, NOW + 2 * WEEK_S, PLAIN)
    assert "Etsy sends a new field of listings: views (number)" in told


def test_null_is_no_change_of_type(history):
    run(history, NOW, PLAIN)
    assert run(history, NOW + WEEK_S, {**PLAIN, "views": None}) == []
    assert run(history, NOW + 2 * WEEK_S, PLAIN) == [], "the type from before is remembered"


def test_a_type_seen_now_and_then_is_told_once(history):
    run(history, NOW, PLAIN)
    mixed = [PLAIN, {**PLAIN, "views": 1.5}, {**PLAIN, "views": True}]
    told = run(history, NOW + WEEK_S, *mixed)
    assert told == ["Etsy sends views of listings as boolean or number now, before as number"]
    assert run(history, NOW + 2 * WEEK_S, *mixed) == []


def test_within_a_week_and_with_few_objects_nothing_is_compared(history):
    run(history, NOW, PLAIN)
    changed = {**PLAIN, "colour": "red"}
    assert run(history, NOW + WEEK_S - 60, changed) == []
    assert run(history, NOW + WEEK_S, changed, number=3) == []
    assert run(history, NOW + WEEK_S, changed)


def test_small_rounds_add_up(history):
    run(history, NOW, PLAIN)
    watch = FieldWatch()
    told = [run(history, NOW + WEEK_S, BARE, number=ENOUGH // 4, watch=watch) for _ in range(4)]
    assert [len(one) for one in told] == [0, 0, 0, 1]


def test_data_sync_tells_it_in_its_status(tmp_path):
    with SandboxProcess(**{**SMALL, "shops": 30, "listings": 700}) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.sync()
        home.run("data", "--fast")
        assert home.status()["data"]["events"] == []
        every = [row["listing_id"] for row in sandbox.truth_listings() if row["visible"]]
        sandbox.churn({"op": "edit", "listing_ids": every, "fields": {"colour": "red"}})
        home.later(15 * 86_400)
        ended = home.run("data", "--fast")
        words = "Etsy sends a new field of listings: colour (text)"
        assert words in ended.out + ended.errors
        home.later(15 * 86_400)
        ended = home.run("data", "--fast")
        assert words not in ended.errors
        assert [one["message"] for one in home.status()["data"]["events"]] == [words]
