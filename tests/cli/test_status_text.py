"""The tables of `furnisync status` use the clock that they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from furnisync.cli.console import clock_time, make_console
from furnisync.cli.status import print_status
from furnisync.config import HomeFiles
from furnisync.status.images import Status


@pytest.mark.parametrize("now", [1_000_000_000.0, 4_000_000_000.0])
def test_the_end_of_the_work_follows_the_clock_that_is_passed_in(tmp_path: Path, capsys, now):
    status = Status(
        home=str(tmp_path), pid=1, activity=None, listings={"active": 2}, shops=1,
        images={"done": 1, "pending": 3}, image_bytes=12_345_678, image_folder_away=None,
        batches_waiting=0, images_due=3, current_pass=None, troubles=(), events=(), quota=None,
        calls_left=0, seconds_left=7200.0,
    )  # fmt: skip
    print_status(make_console(), status, HomeFiles(tmp_path), now)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"left about 2.0 h, until {clock_time(now + 7200)}" in shown
    assert "1 of 4 here, 12.3 MB, 3 pending" in shown
