"""The simulated month of `bench.month`, and what it must come to."""

from __future__ import annotations

import pytest
from rich.console import Console

from bench.month import Month, as_rows, simulate
from bench.rows import print_rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_month_at_5_000_calls_a_day(tmp_path):
    month = Month(step_h=4)
    figures = simulate(month, tmp_path)
    print_rows(Console(), [("month", as_rows(month, figures))])
    assert figures.first_pass_days < 5
    assert figures.found_in_a_day >= 0.95
    assert figures.missing <= 0.005 * figures.active
    # Data sync's cadence of 14 days is kept, and nothing waits long behind it.
    assert figures.p95_age <= 15
    assert figures.median_age <= 8
    assert sum(figures.calls.values()) >= 0.9 * month.scaled_qpd * figures.days


def test_a_day_of_a_small_world(tmp_path):
    """A short run, so that the model itself does not rot."""
    month = Month(listings=600, qpd=100_000, days=1, step_h=6)
    figures = simulate(month, tmp_path)
    assert figures.missing == 0
    assert figures.first_pass_days < 0.5
    assert set(figures.calls) >= {"discovery", "batch", "reviews"}
    assert figures.median_age <= 1.1
