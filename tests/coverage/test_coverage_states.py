"""Ended, back, sold out: image sync and data sync come to say the same, and images stay."""

from __future__ import annotations

import pytest
from coverage_world import DAY_S, SMALL, Home, furniture

from furnisync.sandbox.process import SandboxProcess

LAST_STATES = """
SELECT listing_id, state FROM (
    SELECT listing_id, state, row_number() OVER (
        PARTITION BY listing_id ORDER BY snapshot_timestamp DESC) AS newest
    FROM listings_dynamic) WHERE newest = 1
"""
ENDS = ("sold_out", "expired", "inactive", "removed")


@pytest.fixture(params=[(), ("--furniture-only",)], ids=["whole shops", "furniture only"])
def both(tmp_path, request):
    """A home that both have synced."""
    with SandboxProcess(**SMALL) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        home.sync()
        home.run("data", "--fast", *request.param)
        yield home, request.param


def later(home, flags):
    home.later(31 * DAY_S)
    home.sync()
    home.run("data", "--fast", *flags)


def states(home):
    """(as image sync says, as data sync says) of the listings that both know."""
    images = dict(home.rows("SELECT listing_id, state FROM listings"))
    data = dict(home.rows(LAST_STATES, name="etsy_data.db"))
    known = images.keys() & data.keys()
    return {one: images[one] for one in known}, {one: data[one] for one in known}


def test_both_agree_on_what_ended_and_on_what_came_back(both):
    home, flags = both
    ids = sorted(furniture(home.sandbox))[:40]
    groups = {state: ids[place::4] for place, state in enumerate(ENDS)}
    images, data = states(home)
    assert images == data
    files = set(home.rows("SELECT file FROM images WHERE status = 'done'"))
    for state, some in groups.items():
        home.sandbox.churn({"op": "end", "listing_ids": some, "state": state})
    later(home, flags)
    images, data = states(home)
    assert images == data
    for state, some in groups.items():
        told = "gone" if state == "removed" else state
        assert {images[one] for one in some} == {told}
    assert set(home.rows("SELECT file FROM images WHERE status = 'done'")) >= files
    assert all((home.path / "images" / file).exists() for (file,) in files)

    back = [some[0] for some in groups.values()]
    home.sandbox.churn({"op": "bring_back", "listing_ids": back})
    later(home, flags)
    images, data = states(home)
    assert images == data
    assert {images[one] for one in back} == {"active"}
    assert {one for one, state in images.items() if state == "active"} == set(
        furniture(home.sandbox)
    ) & images.keys()
    assert set(home.rows("SELECT file FROM images WHERE status = 'done'")) >= files
