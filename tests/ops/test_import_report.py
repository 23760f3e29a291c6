"""The report of an import: one line for each thing left out, with a code for its reason."""

import json

import pytest
from old_world import IMAGE_STATUS, NewHome, OldFolder, picture, placeholder

from furnisync.importer.report import Reason, Report


@pytest.fixture
def old(tmp_path):
    return OldFolder(tmp_path / "old")


@pytest.fixture
def home(tmp_path):
    return NewHome(tmp_path / "home")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_code_and_the_screen_has_words(tmp_path):
    path = tmp_path / "report.jsonl"
    with Report(path) as report:
        report.read("some.db, reviews", 5)
        report.leave_out("broken rows", ("some.db, reviews", 7), Reason.NO_SHOP_ID, lost=2)
        report.leave_out("broken rows", ("some.db, reviews", 8), Reason.NO_SNAPSHOT_TIME, "{}", 1)
        sentences = report.short_sources()
    assert sentences == ["some.db, reviews: 2 of 5 imported (2 x no shop id, 1 x no snapshot time)"]
    first, second, last = lines(path)
    assert first == {
        "source": "some.db, reviews", "entry": "7", "what": "broken rows", "reason": "no_shop_id",
    }  # fmt: skip
    assert (second["reason"], second["detail"]) == ("no_snapshot_time", "{}")
    assert last["reason"] == "too_few_imported"
    assert report.counts == {"broken rows": 2, "sources that brought too little": 1}
    assert report.left_out == 3


@pytest.mark.parametrize("lost", [0, 3, 5])
def test_half_is_enough(tmp_path, lost):
    with Report(tmp_path / "report.jsonl") as report:
        report.read("files", 6)
        report.leave_out("files refused", ("files", "a"), Reason.UNREADABLE, lost=lost)
        assert bool(report.short_sources()) == (lost == 5)


@pytest.mark.parametrize(
    "line",
    [
        '{"source": "a", "entry": "b", "what": "c", "reason": "of an earlier version"}',
        '{"source": "a", "entry": "b", "what": "c", "reason": "no_id", "detail": "d"}',
        "",
    ],
)
def test_an_earlier_report_is_replaced(tmp_path, line):
    path = tmp_path / "report.jsonl"
    path.write_text(line)
    with Report(path):
        pass
    assert not path.exists()


def test_every_reason_of_an_import_is_a_code(old, home):
    old.metadata({"101": {"image_id": 1, "shop_id": 9}, "102": None, "x": 3, "103": " "})
    old.image("101.jpg", b"<html>" * 50)
    old.image("104.jpg", picture(4))
    old.tables(
        "CREATE TABLE shops (shop_id, url, create_date, is_shop_us_based);"
        "CREATE TABLE notes (a TEXT);",
        shops=[{"shop_id": "none", "url": "u"}, {"shop_id": 9, "url": "u"}],
        notes=[{"a": "b"}],
    )
    home.run("import", old.path)
    assert {
        (row["what"], row["entry"].rpartition("/")[2], row["reason"]) for row in home.report()
    } == {
        ("broken entries", "102", "no_image_id"),
        ("broken entries", "x", "no_listing_id"),
        ("broken entries", "103", "empty_entry"),
        ("files refused", "101.jpg", "not_an_image"),
        ("files without an image id", "104.jpg", "unknown_image_id"),
        ("broken rows", "'none'", "no_id"),
        ("tables left behind", "notes", "unknown_table"),
        ("sources that brought too little", "", "too_few_imported"),
    }


def test_a_file_of_two_sources_is_one_line_and_a_placeholder_counts_once(old, home):
    url = "https://i.etsystatic.com/9/r/il/ab/1/il_570xN.1_cd.jpg"
    old.metadata({"101": {"image_id": 1, "shop_id": 9}, "102": {"image_id": 2, "shop_id": 9}})
    old.tables(
        IMAGE_STATUS,
        image_status=[
            {"listing_id": 101, "image_id": 1, "url": url},
            {"listing_id": 102, "image_id": 2, "url": url},
        ],
    )
    old.image("101_1.jpg", b"<html>" * 50)
    old.image("102_2.jpg", placeholder())
    ended = home.run("import", old.path)
    assert ended.returncode == 1, ended.stdout  # its one file is not an image
    assert [row["what"] for row in home.report()] == [
        "files refused", "sources that brought too little",
    ]  # fmt: skip
    assert "1  placeholders" in ended.stdout


def test_rows_have_codes_for_their_reasons(old, home):
    rows = [{"listing_id": 200, "image_id": 3, "url": "https://x/y.jpg", "download_done": -1}]
    old.tables(IMAGE_STATUS, image_status=rows)
    home.take(old.path)
    assert home.rows("SELECT status, reason FROM images") == [("gone", "gone_at_import")]


def test_each_table_is_read_once(old, home):
    """A table that is read twice would count its broken rows twice."""
    shops = [{"shop_id": 0}, {"shop_id": -1}, {"shop_id": 9, "url": "u"}]
    old.tables("CREATE TABLE shops (shop_id, url)", shops=shops)
    ended = home.run("import", old.path)
    assert ended.returncode == 1
    assert "1 of 3 imported (2 x no id)" in " ".join(ended.stdout.split())
