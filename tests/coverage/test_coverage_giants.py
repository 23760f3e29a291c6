"""Prices that more listings have than a query shows."""

from __future__ import annotations

import itertools

import pytest
from coverage_world import FREE, TINY_IMAGES, Home, calls_of, check_exact, furniture, inside

from furnisync.sandbox.process import SandboxProcess

LEAVES = (12455, 970, 972, 975, 991, 992)


def big_sandbox(**options):
    return SandboxProcess(shops=60, reviews_mean=1, **TINY_IMAGES, **FREE, **options)


def home_on(tmp_path, sandbox):
    return Home(tmp_path / "home", sandbox, images={"which": "primary"})


def giant_line(certificate):
    lines = [one for one in certificate["intervals"] if "at one price" in (one["reason"] or "")]
    assert len(lines) == 1
    return lines[0]


def test_a_price_beyond_one_end_is_read_from_both_without_reading_twice(tmp_path):
    with big_sandbox(listings=13_000, giant_price=12_600) as sandbox:
        home = home_on(tmp_path, sandbox)
        home.sync()
        certificate = home.coverage()
        check_exact(certificate, furniture(sandbox).values())
        line = giant_line(certificate)
        assert line["verdict"] == "complete"
        assert line["at"] is not None
        # Beside the floor: first pages of what was cut, the page where listings join once more.
        assert calls_of(sandbox, "listings/active") <= 13_000 / 98 + 12
        assert not calls_of(sandbox, "shops/{shop_id}/listings/active")


@pytest.mark.slow
def test_a_price_beyond_both_ends_is_read_by_child_nodes(tmp_path):
    with big_sandbox(listings=2_000) as sandbox:
        shops = [
            one["shop_id"]
            for one in sandbox.truth_shops()
            if one["findable"] and one["api"]["currency_code"] == "USD"
        ]
        for shop_id, _ in zip(itertools.cycle(shops), range(64), strict=False):
            for leaf in LEAVES:
                sandbox.churn(
                    {"op": "create", "shop_id": shop_id, "n": 78, "taxonomy_id": leaf,
                     "amount": 3500, "images": 1}
                )  # fmt: skip
            sandbox.move_clock(60)
        home = home_on(tmp_path, sandbox)
        home.sync(timeout_s=200)
        certificate = home.coverage()
        check_exact(certificate, furniture(sandbox).values())
        assert "by child nodes" in giant_line(certificate)["reason"]
        # Whatever hangs on inner nodes is few: not read from both ends unless some is missing.
        assert not calls_of(sandbox, "shops/{shop_id}/listings/active")


@pytest.mark.slow
def test_a_price_beyond_all_queries_is_counted_named_and_read_by_shops(tmp_path):
    with big_sandbox(listings=27_000, giant_price=26_000) as sandbox:
        home = home_on(tmp_path, sandbox)
        ended = home.sync(timeout_s=200)
        certificate = home.coverage(status=None)
        truth = furniture(sandbox)
        line = giant_line(certificate)
        there = {one for one, row in truth.items() if inside(line, row)}
        assert line["count"] == len(there)
        found = home.ids("SELECT listing_id FROM listings WHERE state = 'active'") & there
        assert line["found"] == len(found)
        assert line["short"] == len(there - found)
        assert certificate["out_of_reach"] == line["short"]
        # The ends of four orders leave few; the shops that sell at that price have the rest.
        assert "stayed out of reach" in ended.out + ended.errors
        assert calls_of(sandbox, "shops/{shop_id}/listings/active")
        assert found == there
        check_exact(certificate, truth.values())
