"""Each fault of API and CDN in turn, and all at once: the same set, or what is missing is named."""

from __future__ import annotations

import pytest
from support.sync_world import (
    WHOLE_KINDS,
    Home,
    calls,
    check_complete,
    check_images,
    check_metadata,
    findable,
    served,
    small_sandbox,
)

from furnisync.image_job import ImageReason, ReasonCode

API_FAULTS = {
    "500": {"do": "500"},
    "503 as HTML": {"do": "503", "body": "html"},
    "502": {"do": "502"},
    "429": {"do": "429", "retry_after": 1},
    "429 without headers": {"do": "429", "retry_after": 1, "headers": False},
    "reset": {"do": "reset"},
    "reset in mid-body": {"do": "reset_mid_body"},
    "hang": {"do": "hang"},
    "slow": {"do": "slow", "seconds": 0.5},
    "malformed JSON": {"do": "malformed_json"},
    "no results": {"do": "no_results"},
    "results null": {"do": "null_results"},
    "wrong types": {"do": "wrong_types"},
    "duplicates": {"do": "duplicates"},
    "missing items": {"do": "missing_items"},
    "no rate headers": {"do": "no_rate_headers"},
}
ALIKE = {"502", "429 without headers", "slow", "results null", "reset"}
"""Much like others: with the slow tests."""


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=name, marks=[pytest.mark.slow] if name in ALIKE else [])
        for name, fault in API_FAULTS.items()
    ],
)
def test_fault_of_the_api_that_passes(bent_home, bent, fault):
    bent.set_faults([{"where": "api", "every": 3, **fault}])
    ended = bent_home.sync("--fast")
    bent.set_faults([])
    assert ended.status == 0, ended.out
    check_complete(bent_home)
    status = bent_home.status()
    assert status["troubles"] == []


@pytest.mark.parametrize(
    ("by", "nth"), [(700, 1), (-300, 1), (-200, 1), (20_000, 1), (300, 2), (300, "last")]
)
def test_count_that_is_wrong_once(bent_home, bent, by, nth):
    """Whichever page says it: everything comes, and nothing is said to be missing."""
    place = {"nth": calls_of_a_pass(bent_home) if nth == "last" else nth}
    lie = {"do": "count_off", "by": by, "call": "listings/active", **place}
    bent.set_faults([{"where": "api", **lie}])
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(bent_home)
    assert "listings came" not in ended.out
    assert bent_home.status()["troubles"] == []
    assert "300 listings found of 300 counted" in bent_home.run("coverage").out


def calls_of_a_pass(home) -> int:
    """List pages that a pass over the undisturbed world takes."""
    assert home.sandbox is not None
    other = Home(home.path.with_name("undisturbed"), home.sandbox)
    home.sandbox.reset_asked()
    assert other.sync("--fast").status == 0
    return sum(home.sandbox.asked()["calls"]["listings/active"].values())


def test_every_field_null(bent_home, bent):
    calls_with_listings = ("listings/active", "listings/batch")
    bent.set_faults([{"where": "api", "call": c, "do": "null_fields"} for c in calls_with_listings])
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(bent_home)


def test_batch_that_leaves_listings_out_twice_is_not_believed_when_it_repeats_others(
    bent_home, bent
):
    bent.set_faults([{"where": "api", "call": "listings/batch", "do": "duplicates", "times": 4}])
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(bent_home)


LASTING = {
    "malformed JSON": ({"do": "malformed_json"}, "malformed"),
    "500": ({"do": "500"}, "500"),
    "hang": ({"do": "hang"}, "no answer"),
}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(*told, id=name, marks=[pytest.mark.slow] if name == "hang" else [])
        for name, told in LASTING.items()
    ],
)
def test_page_that_never_comes_is_named_and_read_by_the_next_run(tmp_path, bent, fault, reason):
    home = Home(tmp_path / "home", bent, api={"timeout_s": 0.5, "attempts": 2})
    page = {"call": "listings/active", "nth": list(range(2, 99))}  # all but the first
    bent.set_faults([{"where": "api", **page, **fault}])
    ended = home.sync("--fast")
    assert ended.status == 1, ended.out
    status = home.status()
    assert not status["current_pass"]["complete"]
    assert status["current_pass"]["intervals_failed"] == 1
    [trouble] = status["troubles"]
    assert trouble["what"] == "price interval"
    assert reason in trouble["reason"]
    assert reason in ended.out
    spent = calls(bent)
    bent.set_faults([])
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(home)
    assert home.status()["troubles"] == []
    assert calls(bent) - spent <= 2 + 3 + 1  # what had come was kept; a ping compares the clocks


def test_batch_that_never_comes_is_named_and_asked_for_later(tmp_path, bent):
    home = Home(tmp_path / "home", bent, api={"attempts": 2, "outage_patience_s": 2.0})
    bent.set_faults([{"where": "api", "call": "listings/batch", "do": "500"}])
    ended = home.sync("--fast")
    assert ended.status == 1, ended.out
    assert "Etsy's API (batches of listings) has been broken since" in ended.out
    assert home.number("SELECT count(*) FROM listings WHERE batched_at IS NULL") == 300
    bent.set_faults([])
    home.later(1.1 / 24)
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(home)
    assert home.status()["troubles"] == []


def test_broken_listings_of_a_batch_are_named_and_the_run_says_so(bent_home, bent):
    bent.set_faults([{"where": "api", "call": "listings/batch", "do": "wrong_types"}])
    ended = bent_home.sync("--fast")
    assert ended.status == 1, ended.out
    troubles = bent_home.status()["troubles"]
    assert sum(one["number"] for one in troubles) == bent_home.number(
        "SELECT count(*) FROM listings WHERE batched_at IS NULL"
    )
    bent.set_faults([])
    bent_home.later(1.01)
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(bent_home)


def test_list_that_always_lacks_listings_is_told(bent_home, bent):
    bent.set_faults([{"where": "api", "call": "listings/active", "do": "missing_items"}])
    ended = bent_home.sync("--fast")
    found = bent_home.number("SELECT count(*) FROM listings")
    assert found < len(findable(bent))
    told = " ".join(one["reason"] for one in bent_home.status()["troubles"])
    assert f"{found} of 300" in told, (ended.out, told)


def test_result_that_can_never_be_read_is_told(bent_home, bent):
    bent.set_faults([{"where": "api", "call": "listings/active", "do": "wrong_types"}])
    ended = bent_home.sync("--fast")
    found = bent_home.number("SELECT count(*) FROM listings")
    assert found < len(findable(bent))
    told = " ".join(one["reason"] for one in bent_home.status()["troubles"])
    assert f"{found} of 300" in told, (ended.out, told)


PASSING_CDN = [
    {"do": "500"},
    {"do": "503", "retry_after": 1},
    {"do": "429", "retry_after": 1},
    {"do": "reset"},
    {"do": "reset_mid_body"},
    {"do": "hang"},
    {"do": "slow", "seconds": 0.3},
    {"do": "truncated"},
    {"do": "empty"},
    {"do": "html_200"},
    {"do": "garbage"},
    {"do": "cut_jpeg"},
    {"do": "endless"},
]
LASTING_CDN = {
    "404": ("gone", "404"),
    "410": ("gone", "410"),
    "500": ("failed", "500"),
    "reset": ("failed", "connection"),
    "reset_mid_body": ("failed", ""),
    "hang": ("failed", "timed out"),
    "truncated": ("failed", "truncated"),
    "empty": ("failed", "empty"),
    "html_200": ("bad", "HTML"),
    "garbage": ("bad", ""),
    "cut_jpeg": ("failed", "truncated"),
    "endless": ("bad", "larger than"),
    "redirect": ("bad", "redirect"),
    "png": ("done", None),
    "webp": ("done", None),
    "gif": ("done", None),
}


def strike(images, deeds, **more):
    """One rule for each deed, each for an image of its own; returns rules and image ids."""
    ids = [row["image_id"] for row in images[:: max(1, len(images) // (len(deeds) + 1))]]
    rules = [
        {"where": "cdn", "match": {"image_id": str(image_id)}, **deed, **more}
        for image_id, deed in zip(ids, deeds, strict=False)
    ]
    assert len(rules) == len(deeds)
    return rules, ids


def test_each_fault_of_the_cdn_that_passes(bent_home, bent):
    rules, _ = strike(served(bent), PASSING_CDN, times=1)
    bent.set_faults(rules)
    bent_home.configure(images={"timeout_s": 1.0, "max_bytes": 1_000_000})
    ended = bent_home.sync("--fast")
    assert ended.status == 0, ended.out
    assert all(rule["done"] == 1 for rule in bent.asked()["faults"])
    check_complete(bent_home)
    assert bent_home.status()["troubles"] == []


@pytest.mark.slow  # waits for the real pauses between tries: 42 seconds
def test_each_fault_of_the_cdn_that_lasts(bent_home, bent):
    deeds = [{"do": deed} for deed in LASTING_CDN]
    rules, ids = strike(served(bent), deeds)
    bent.set_faults(rules)
    bent_home.configure(images={"timeout_s": 1.0, "max_bytes": 1_000_000})
    ended = bent_home.sync("--fast")
    truth = served(bent)
    check_complete(bent_home, images=truth)
    rows = {
        image_id: (state, ImageReason(ReasonCode(code), detail).words if code else None)
        for image_id, state, code, detail in bent_home.rows(
            "SELECT image_id, status, reason, reason_detail FROM images"
        )
    }
    status = bent_home.status()
    told = {(one["what"], one["reason"]) for one in status["troubles"]}
    for (deed, (state, words)), image_id in zip(LASTING_CDN.items(), ids, strict=False):
        found, reason = rows[image_id]
        assert found == state, (deed, found, reason)
        if words is not None:
            assert words in reason, (deed, reason)
            assert (f"image {state}", reason) in told
            assert reason in " ".join(ended.out.split()) or len(reason) > 40
    assert sum(one["number"] for one in status["troubles"]) == len(LASTING_CDN) - 3
    states = {
        image["image_id"]: image["status"]
        for entry in bent_home.metadata().values()
        for image in entry["images"]
    }
    assert all(states[i] == LASTING_CDN[d][0] for d, i in zip(LASTING_CDN, ids, strict=False))
    _fetched_later_when_the_faults_are_over(bent_home, bent, ids)


def _fetched_later_when_the_faults_are_over(home, sandbox, ids):
    """Failed ones within the hour, bad ones in a week; gone ones when batch names them again."""
    sandbox.set_faults([])
    home.later(1.1 / 24)
    assert home.sync("--fast").status == 0
    assert home.status()["images"].keys() == {"done", "gone", "bad"}
    home.later(8)
    assert home.sync("--fast").status == 0
    assert home.status()["images"].keys() == {"done", "gone"}


ALL_API = ["500", "503", "429", "reset", "reset_mid_body", "hang", "malformed_json", "no_results",
           "null_results", "wrong_types", "null_fields", "duplicates", "missing_items",
           "no_rate_headers"]  # fmt: skip
ALL_CDN = ["404", "410", "500", "503", "429", "reset", "reset_mid_body", "hang", "slow",
           "truncated", "empty", "html_200", "png", "webp", "gif", "garbage", "cut_jpeg",
           "endless", "redirect"]  # fmt: skip


@pytest.mark.slow
def test_all_faults_at_once(tmp_path):
    with small_sandbox(listings=400, shops=30) as sandbox:
        home = Home(
            tmp_path / "home",
            sandbox,
            api={"timeout_s": 1.0},
            images={"timeout_s": 1.0, "max_bytes": 300_000},
        )
        rules = [{"where": "api", "do": deed, "share": 0.02} for deed in ALL_API]
        for deed in ALL_CDN:  # those that stop everybody for a second do not last
            more = {"retry_after": 1} if deed in ("429", "503") else {"sticky": True}
            rules.append({"where": "cdn", "do": deed, "share": 0.02, "seconds": 0.2, **more})
            if deed == "hang":
                del rules[-1]["seconds"]
        sandbox.set_faults(rules)
        ended = home.sync("--fast", timeout_s=280)
        truth = served(sandbox)
        active = {row[0] for row in home.rows("SELECT listing_id FROM listings")}
        assert active == findable(sandbox), ended.out[-3000:]
        check_images(home, truth)
        struck = {row["image_id"] for row in truth if row["kind"] not in WHOLE_KINDS}
        told = home.rows("SELECT image_id, reason FROM images WHERE status <> 'done'")
        assert {image_id for image_id, _ in told} == struck
        assert all(reason for _, reason in told)
        number = sum(one["number"] for one in home.status()["troubles"])
        assert number >= min(len(struck), 1)
        check_metadata(home, truth)
