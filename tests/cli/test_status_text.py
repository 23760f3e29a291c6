"""The tables of `furnisync status` use the clock that they are given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import sync_world

from furnisync.cli.console import clock_time, make_console
from furnisync.cli.status import print_status
from furnisync.status.images import Status


@pytest.mark.parametrize("now", [1_000_000_000.0, 4_000_000_000.0])
def test_the_end_of_the_work_follows_the_clock_that_is_passed_in(tmp_path: Path, capsys, now):
    status = Status(
        home=str(tmp_path), pid=1, activity=None, listings={"active": 2}, shops=1,
        images={"done": 1, "pending": 3}, image_bytes=12_345_678, image_folder_away=None,
        batches_waiting=0, images_due=3, current_pass=None, troubles=(), events=(), quota=None,
        calls_left=0, seconds_left=7200.0,
    )  # fmt: skip
    print_status(make_console(), status, now)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"left about 2.0 h, until {clock_time(now + 7200)}" in shown
    assert "1 of 4 here, 12.3 MB, 3 pending" in shown


JSON_FIELDS = {
    "home": ["home"],
    "image sync": ["pid", "activity"],
    "listings": ["listings"],
    "shops": ["shops"],
    "images": ["images", "image_bytes"],
    "waiting": ["batches_waiting", "images_due"],
    "pass": ["current_pass"],
    "quota": ["quota"],
    "left": ["calls_left", "seconds_left"],
    "disk": ["disk"],
    "image files": ["image_folder"],
    "metadata": ["metadata"],
}
"""By the names of the lines: where `status --json` has the same."""
DATA_JSON_FIELDS = {
    "data sync": ["pid"],
    "shops": ["synced", "waiting", "never_synced", "under_way", "gone", "failing"],
    "reviews": ["reviews_never_walked", "reviews_due"],
    "first sync": ["first_sync"],
    "cadence": ["behind_days", "keeps_up", "ahead", "calls_per_day", "quota_per_day"],
    "quota": ["quota"],
    "history": ["history"],
}
TITLES = {"Calls by purpose", "What failed and why", "What happened"}


def test_every_line_has_its_field_in_the_json(tmp_path: Path):
    with sync_world.small_sandbox() as sandbox:
        home = sync_world.Home(tmp_path / "home", sandbox)
        home.sync("--fast", "--limit", "30")
        assert home.run("data", "--fast").status == 0
        text, found = home.run("status").out, home.status()
    images, _, data = text.partition("data sync")
    for lines, fields, json in (
        (images, JSON_FIELDS, found),
        ("data sync" + data, DATA_JSON_FIELDS, found["data"]),
    ):
        names = {found[1] for line in facts(lines) if (found := NAME.match(line))}
        assert names <= fields.keys()
        assert names >= {"quota", "shops"}
        for name in names:
            assert all(one in json for one in fields[name]), name


NAME = re.compile(r" *(\S+(?: \S+)*)  +\S")


def facts(text: str) -> list[str]:
    """The lines of the first table."""
    table, _, _ = text.strip().partition("\n\n")
    lines = table.splitlines()
    ends = [at for at, line in enumerate(lines) if line.strip() in TITLES]
    return lines[: min(ends, default=len(lines))]
