"""The image server broken as a whole: no image loses a try, it is told, all images come later."""

from __future__ import annotations

import pytest
from support.sync_world import Home, check_complete, served

SPOILED = "SELECT count(*) FROM images WHERE attempts > 0 OR status IN ('bad', 'failed', 'gone')"
CDN = {"where": "cdn"}
JUNK = {
    "HTML": {"do": "html_200"},
    "garbage": {"do": "garbage"},
    "503": {"do": "503"},
    "403": {"do": "403"},
    "404": {"do": "404"},
    "reset": {"do": "reset"},
    "one picture": {"do": "same_picture"},
    "one pixel": {"do": "tiny"},
}


QUICK = {("HTML", True), ("one picture", False), ("403", False)}
"""The others are much alike: with the slow tests."""


@pytest.mark.parametrize(
    ("fault", "fresh"),
    [
        pytest.param(
            fault, fresh,
            id=f"{name}-{'fresh' if fresh else 'held'}",
            marks=[] if (name, fresh) in QUICK else [pytest.mark.slow],
        )
        for name, fault in JUNK.items() for fresh in (True, False)
    ],
)  # fmt: skip
def test_junk_from_the_whole_server(tmp_path, bent, fault, fresh):
    home = Home(tmp_path / "home", bent, images={"outage_patience_s": 600.0})
    if not fresh:
        assert home.sync("--fast", "--limit", "40").status == 0
    held = home.number("SELECT count(*) FROM images WHERE status = 'done'")
    bent.set_faults([{**CDN, **fault}])
    run = home.start("--fast")
    run.until(lambda: "the image server is broken" in run.words)
    run.until(lambda: home.status()["outages"])
    status = home.status()
    (outage,) = status["outages"]
    assert outage["upstream"] == "the image server"
    assert status["activity"]["downloads_paused_kind"] == "server"
    assert "the image server" in home.run("status").out
    assert "the image server is broken" in home.run("notices", "check").out
    assert home.number(SPOILED) == 0
    assert home.number("SELECT count(*) FROM images WHERE status = 'done'") == held
    bent.set_faults([])
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert ended.out.count("WARNING the image server is broken") == 1
    assert ended.out.count("WARNING the image server works again") == 1
    check_complete(home)
    assert home.status()["outages"] == []


def test_a_run_that_ends_gives_up_and_says_why(tmp_path, bent):
    home = Home(tmp_path / "home", bent, images={"outage_patience_s": 2.0})
    bent.set_faults([{**CDN, "do": "html_200"}])
    ended = home.sync("--fast")
    assert ended.status == 1, ended.out
    assert "the run ends as the image server is still broken: not an image" in ended.out
    assert home.number(SPOILED) == 0
    bent.set_faults([])
    assert home.sync("--fast").status == 0
    check_complete(home)


def test_broken_images_among_good_ones_are_named_and_stop_nothing(tmp_path, bent):
    home = Home(tmp_path / "home", bent)
    assert home.sync("--fast", "--limit", "40").status == 0
    images = served(bent)
    shop_id = images[-1]["shop_id"]
    ill = [row["image_id"] for row in images if row["shop_id"] == shop_id]
    bent.set_faults([{**CDN, "match": {"image_id": ill}, "do": "html_200"}])
    ended = home.sync("--fast")
    assert "is broken" not in ended.out
    good = len(images) - len(ill)
    assert home.number("SELECT count(*) FROM images WHERE status = 'done'") >= good
    bent.set_faults([])
    home.later(8)
    assert home.sync("--fast").status == 0
    check_complete(home)


def test_a_kill_in_an_outage_leaves_nothing_to_undo(tmp_path, bent):
    home = Home(tmp_path / "home", bent)
    bent.set_faults([{**CDN, "do": "same_picture"}])
    run = home.start("--fast")
    run.until(lambda: "the image server is broken" in run.words)
    run.kill()
    bent.set_faults([])
    assert home.sync("--fast").status == 0
    check_complete(home)


DOUBTED = "SELECT count(*) FROM images WHERE reason = 'same_bytes' AND next_try IS NOT NULL"


def test_one_picture_for_images_of_many_shops_is_told_and_fetched_once_more(tmp_path, bent):
    home = Home(tmp_path / "home", bent)
    bent.set_faults([{**CDN, "do": "same_picture", "share": 0.2, "sticky": True}])
    ended = home.sync("--fast")
    assert ended.out.count("the same picture came for images of 5 shops") == 1
    assert "is broken" not in ended.out
    assert home.number(DOUBTED) > 20
    home.later(2)
    assert "the same picture" not in home.sync("--fast").out, "what comes twice is as it is"
    assert home.number(DOUBTED) == 0
    asked = bent.asked()["cdn"]["total"]
    home.later(2)
    home.sync("--fast")
    assert bent.asked()["cdn"]["total"] == asked


def test_a_placeholder_for_some_images_is_replaced_a_day_later(tmp_path, bent):
    home = Home(tmp_path / "home", bent)
    bent.set_faults([{**CDN, "do": "same_picture", "share": 0.2, "sticky": True}])
    home.sync("--fast")
    assert home.number(DOUBTED) > 20
    bent.set_faults([])
    home.later(2)
    home.sync("--fast")
    check_complete(home)
    assert home.number(DOUBTED) == 0
