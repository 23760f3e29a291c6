"""Whatever Etsy does, the tables end as those of a run that nothing disturbed."""

from __future__ import annotations

import pytest
from support.collect_world import (
    BATCH_CALL,
    LIST_CALL,
    REVIEW_CALL,
    SHOP_CALL,
    Home,
    content,
    seed_catalog,
    small_sandbox,
)

EVERY_DEED = [
    {"do": "reset"},
    {"do": "reset_mid_body"},
    {"do": "hang"},
    {"do": "slow", "seconds": 0.3},
    {"do": "malformed_json"},
    {"do": "no_results"},
    {"do": "null_results"},
    {"do": "wrong_types"},
    {"do": "null_fields"},
    {"do": "count_off", "factor": 0.3},
    {"do": "count_off", "factor": 3.0},
    {"do": "duplicates"},
    {"do": "missing_items"},
    {"do": "no_rate_headers"},
    {"do": "429"},
    {"do": "429", "headers": False},
    {"do": "500"},
    {"do": "502"},
    {"do": "503"},
    {"do": "503", "retry_after": 1},
]
WORLD = {"shops": 16, "listings": 420, "reviews_mean": 40}


@pytest.fixture(scope="module")
def world():
    with small_sandbox(**WORLD) as sandbox:
        yield sandbox
    # One world for all: faults come and go, the truth stays.


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("undisturbed") / "home", world)
    seed_catalog(home, world)
    world.set_faults([])
    home.sync()
    return content(home)


@pytest.fixture
def faulty(world, undisturbed, tmp_path):
    home = Home(tmp_path / "home", world, api={"timeout_s": 1.0, "connections": 8})
    seed_catalog(home, world)
    yield home
    world.set_faults([])


def sync_until_complete(home: Home, runs: int = 6) -> None:
    """As a user does: the same command again, as long as it says that something waits."""
    for _ in range(runs):
        ended = home.start("--fast").wait()
        assert ended.status in (0, 1), ended.out
        assert "Traceback" not in ended.out, ended.out
        if ended.status == 0:
            return
        assert home.rows(
            "SELECT reason FROM sync_state WHERE reason IS NOT NULL OR reviews_reason IS NOT NULL"
        ), ended.out
    raise AssertionError(ended.out)


def test_all_faults_at_once(faulty, world, undisturbed):
    world.set_faults([{**deed, "share": 0.02} for deed in EVERY_DEED])
    sync_until_complete(faulty)
    assert content(faulty) == undisturbed


@pytest.mark.slow
def test_every_fault_on_every_kind_of_call(faulty, world, undisturbed):
    """The second to fifth call of each kind, and what is asked again, meet one fault each."""
    calls = (LIST_CALL, BATCH_CALL, REVIEW_CALL, SHOP_CALL)
    quick = [deed for deed in EVERY_DEED if deed["do"] not in ("hang", "slow")]
    world.set_faults(
        [
            {**deed, "call": call, "nth": [2 + number]}
            for call in calls
            for number, deed in enumerate(quick)
        ]
    )
    sync_until_complete(faulty)
    assert content(faulty) == undisturbed
    done = [rule for rule in world.asked()["faults"] if rule["done"]]
    assert len(done) >= len(quick) * 2 + 4


@pytest.mark.slow
@pytest.mark.parametrize("deed", EVERY_DEED, ids=lambda deed: "-".join(map(str, deed.values())))
def test_one_fault_again_and_again(faulty, world, undisturbed, deed):
    world.set_faults([{**deed, "every": 4}])
    sync_until_complete(faulty)
    assert content(faulty) == undisturbed


@pytest.mark.parametrize(
    ("call", "deed"),
    [
        (BATCH_CALL, {"do": "wrong_types"}),
        (BATCH_CALL, {"do": "duplicates"}),
        (BATCH_CALL, {"do": "missing_items"}),
        (LIST_CALL, {"do": "no_results"}),
        (REVIEW_CALL, {"do": "malformed_json"}),
    ],
    ids=lambda value: value["do"] if isinstance(value, dict) else value.split("/")[-1],
)
def test_what_fails_for_good_waits_with_its_reason(faulty, world, undisturbed, call, deed):
    """Nothing half or false is stored; once the fault is over, the same command fills the rest."""
    faulty.configure(api={"attempts": 2, "connections": 8, "outage_patience_s": 2.0})
    world.set_faults([{**deed, "call": call}])
    ended = faulty.start("--fast").wait()
    assert ended.status == 1, ended.out
    assert not faulty.rows("SELECT 1 FROM listings_dynamic WHERE state = 'gone'")
    column = "reviews_reason" if call == REVIEW_CALL else "reason"
    waiting = faulty.rows(f"SELECT 1 FROM sync_state WHERE status != 'gone' AND {column} NOT NULL")
    # A kind of call that fails for all is an outage, and costs no shop a try.
    assert waiting or "has been broken since" in ended.out
    world.set_faults([])
    assert faulty.start("--fast").wait().status == 0
    assert content(faulty) == undisturbed
