"""The crawl plan's file: what is wrong is named, what people wrote stays."""

from __future__ import annotations

import itertools
import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from furnisync.crawl.plan_file import (
    CrawlPlan,
    PlannedTaxonomy,
    load_plan,
    save_cuts,
    save_merged,
    ship_plan,
    without_covered,
)
from furnisync.crawl.price_split import HIGHEST
from furnisync.errors import ConfigError
from furnisync.etsy.taxonomy import Node, Tree

TREE = Tree(
    [
        Node(967, None, "Furniture"),
        Node(968, 967, "Bedroom"),
        Node(970, 968, "Dressers"),
        Node(990, 967, "Living room"),
        Node(1, None, "Accessories"),
    ]
)


def entry(**given):
    return {"id": 967, "name": "Furniture", "price_breaks": [0, 50, 1_000_000], **given}


WRONG = {
    "not JSON": (b'{"taxonomies": [', "not JSON"),
    "not UTF-8": (b'{"taxonomies": ["\xff"]}', "not JSON"),
    "empty": (b"", "not JSON"),
    "endlessly nested": (b"[" * 200_000, "not JSON"),
    "a list": ([], 'a list named "taxonomies"'),
    "no taxonomies": ({"description": "x"}, 'a list named "taxonomies"'),
    "taxonomies null": ({"taxonomies": None}, 'a list named "taxonomies"'),
    "none": ({"taxonomies": []}, "is empty"),
    "a number for an entry": ({"taxonomies": [entry(), 7]}, "entry 2 must be an object"),
    "no id": ({"taxonomies": [{"price_breaks": [0, 1]}]}, 'entry 1: "id" is None'),
    "text id": ({"taxonomies": [entry(id="967")]}, "entry 1: \"id\" is '967'"),
    "true id": ({"taxonomies": [entry(id=True)]}, 'entry 1: "id" is True'),
    "negative id": ({"taxonomies": [entry(id=-1)]}, 'entry 1: "id" is -1'),
    "huge id": ({"taxonomies": [entry(id=2**70)]}, 'entry 1: "id" is'),
    "no breaks": ({"taxonomies": [{"id": 967}]}, "entry 1 (taxonomy 967)"),
    "one break": ({"taxonomies": [entry(price_breaks=[0])]}, "at least two prices"),
    "text breaks": ({"taxonomies": [entry(price_breaks="0-100")]}, "at least two prices"),
    "text break": ({"taxonomies": [entry(price_breaks=[0, "9"])]}, "price break '9'"),
    "null break": ({"taxonomies": [entry(price_breaks=[None, 9])]}, "price break None"),
    "true break": ({"taxonomies": [entry(price_breaks=[0, True])]}, "price break True"),
    "negative break": ({"taxonomies": [entry(price_breaks=[-5, 9])]}, "price break -5"),
    "NaN": (b'{"taxonomies": [{"id": 967, "price_breaks": [0, NaN]}]}', "price break nan"),
    "infinite": (b'{"taxonomies": [{"id": 967, "price_breaks": [0, 1e999]}]}', "price break inf"),
    "descending": ({"taxonomies": [entry(price_breaks=[0, 90, 50])]}, "50 follows 90"),
    "overlapping": ({"taxonomies": [entry(price_breaks=[0, 50, 50, 90])]}, "50 follows 50"),
    "twice": ({"taxonomies": [entry(), entry()]}, "967 is there twice"),
    "unknown": ({"taxonomies": [entry(id=5, name="Toys")]}, "5 (Toys) is not in Etsy's"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_each_wrong_form_gets_a_sentence_that_names_file_and_entry(tmp_path, wrong):
    content, words = WRONG[wrong]
    path = tmp_path / "furniture_taxonomy_config.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(ConfigError) as told:
        load_plan(path, TREE)
    assert str(path) in str(told.value)
    assert words in str(told.value)
    assert "\n" not in str(told.value)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_plan(tmp_path / "plan.json", TREE)


def test_a_home_without_a_plan_gets_all_of_furniture(tmp_path):
    path = tmp_path / "plan.json"
    plan = load_plan(path, TREE)
    assert [one.id for one in plan.taxonomies] == [967]
    assert plan.taxonomies[0].intervals() == [(967, None, None)]
    assert not path.exists()  # to look at the plan makes none
    ship_plan(path)
    assert load_plan(path, TREE) == plan
    path.write_text(json.dumps({"taxonomies": [entry(id=968)]}))
    ship_plan(path)
    assert [one.id for one in load_plan(path, TREE).taxonomies] == [968]


def test_outermost_ends_are_open_and_others_shared():
    one = PlannedTaxonomy(967, "Furniture", (0.0, 9.995, 50.0, HIGHEST))
    assert one.intervals() == [(967, None, 9.995), (967, 9.995, 50.0), (967, 50.0, None)]
    one = PlannedTaxonomy(967, "Furniture", (10.0, 50.0))
    assert one.intervals() == [(967, 10.0, 50.0)]


def test_cuts_change_no_fingerprint():
    coarse = CrawlPlan((PlannedTaxonomy(967, "a", (0.0, HIGHEST)),))
    fine = CrawlPlan((PlannedTaxonomy(967, "b", (0.0, 5.0, HIGHEST)),))
    other = CrawlPlan((PlannedTaxonomy(967, "a", (1.0, HIGHEST)),))
    assert coarse.fingerprint() == fine.fingerprint() != other.fingerprint()


def test_cuts_are_added_and_all_else_stays(tmp_path):
    path = tmp_path / "plan.json"
    document = {
        "description": "mine — möbel 家具",
        "note": {"kept": [1, None]},
        "taxonomies": [entry(id=990, colour="red"), entry(owner="me"), 5],
    }
    path.write_text(json.dumps(document), "utf-8")
    save_cuts(path, 967, [24.995, 50, 1499.005])
    document["taxonomies"][1]["price_breaks"] = [0, 24.995, 50, 1499.005, 1_000_000]
    assert json.loads(path.read_text("utf-8")) == document
    assert "möbel 家具" in path.read_text("utf-8")
    save_merged(path, 967, [24.995, 50, 1499.005])
    assert json.loads(path.read_text("utf-8"))["taxonomies"][1]["price_breaks"] == [0, 1_000_000]


def test_an_entry_that_was_taken_out_meanwhile_stays_out(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"taxonomies": [entry(id=990)]}))
    save_cuts(path, 967, [5.0])
    assert json.loads(path.read_text()) == {"taxonomies": [entry(id=990)]}


@pytest.mark.parametrize("content", [b"{broken", b'{"taxonomies": [{"id": 967}]}'])
def test_a_file_that_was_broken_meanwhile_is_told_and_untouched(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(str(path))):
        save_cuts(path, 967, [5.0])
    assert path.read_bytes() == content


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    ship_plan(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_cuts(path, 967, [5.0])
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


@given(
    st.lists(st.integers(1, 99_999_999), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(1, 99_999_999), max_size=30),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_saved_is_read_again(tmp_path, breaks, more):
    path = tmp_path / "plan.json"
    ends = [0, *sorted(price / 100 for price in breaks), 1_000_000]
    path.write_text(json.dumps({"taxonomies": [entry(price_breaks=ends)]}))
    added = [price / 100 - 0.005 for price in more]
    save_cuts(path, 967, added)
    plan = load_plan(path, TREE)
    assert set(plan.taxonomies[0].price_breaks) == {*map(float, ends), *added}
    intervals = plan.taxonomies[0].intervals()
    assert intervals[0][1] is None
    assert intervals[-1][2] is None
    assert all(one[2] == two[1] for one, two in itertools.pairwise(intervals))


def planned(number, low=0.0, high=HIGHEST):
    return PlannedTaxonomy(number, "", (low, high))


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([planned(967), planned(968), planned(970)], [967]),
        ([planned(968), planned(970), planned(990)], [968, 990]),
        ([planned(967, 10), planned(970)], [967, 970]),
        ([planned(967), planned(970, 10, 50), planned(1)], [967, 1]),
        ([planned(970), planned(967)], [967]),
        ([planned(5)], [5]),
    ],
)
def test_what_another_entry_shows_is_not_read_twice(entries, left):
    assert [one.id for one in without_covered(CrawlPlan(tuple(entries)), TREE).taxonomies] == left
