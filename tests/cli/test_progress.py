"""Progress: bars on a terminal, a line a minute in a file, nothing beside JSON."""

from __future__ import annotations

import io
import logging
import time

import pytest
from rich.console import Console

from furnisync.cli.live import FIRST_LINE_S, LINE_EVERY_S, Bars, Frame, Stage


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Monotonic time as the test sets it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_file_gets_a_line_after_some_seconds_and_then_one_a_minute(clock, caplog):
    caplog.set_level(logging.INFO, "furnisync")
    with Bars(Console(file=io.StringIO())) as bars:
        bars.show("reading", 1, 10)
        clock[0] += FIRST_LINE_S
        bars.show("reading", 5, 10, "5 entries")
        clock[0] += LINE_EVERY_S - 1
        bars.show("reading", 6, 10)
        clock[0] += 1
        bars.show("adopting", 7_000, None)
    assert lines(caplog) == ["reading: 50 % 5 entries", "adopting: 7,000"]


def test_steps_add_up_and_a_stage_begins_at_nothing(clock, caplog):
    caplog.set_level(logging.INFO, "furnisync")
    with Bars(Console(file=io.StringIO())) as bars:
        bars.begin("files", 4)
        bars.step(1)
        clock[0] += FIRST_LINE_S
        bars.step(2)
        clock[0] += LINE_EVERY_S
        bars.begin("rows", None)
    assert lines(caplog) == ["files: 75 %", "rows: 0"]


def test_nothing_is_logged_beside_json(clock, caplog):
    caplog.set_level(logging.INFO, "furnisync")
    with Bars(Console(file=io.StringIO(), stderr=True)) as bars:
        clock[0] += 2 * LINE_EVERY_S
        bars.show("files", 1, 4)
        bars.show_frame(Frame("working", (), "calls", "line"))
    assert not caplog.records


def test_a_terminal_gets_the_frame_and_no_line(caplog):
    caplog.set_level(logging.INFO, "furnisync")
    shown = io.StringIO()
    with Bars(Console(file=shown, force_terminal=True, width=100)) as bars:
        stages = (Stage("pages", 3, 4, "1 of 2 [bold]intervals"), Stage("images", 12_000, None))
        bars.show_frame(Frame("reading [red]lists", stages, "calls: 7", "a line"))
    for part in ("reading [red]lists", "75 %", "1 of 2 [bold]intervals", "12,000", "calls: 7"):
        assert part in shown.getvalue()
    assert not caplog.records


def test_more_than_all_is_shown_as_all():
    assert Stage("files", 5, 4).count() == "100 %"
    assert Stage("files", 0, 0).count() == "0"
