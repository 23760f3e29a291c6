"""A simulated month of the steady state, scaled down.

    python -m bench.month [--qpd 5000] [--days 30] [--listings 20000] [--whole-shops] ...

20,000 listings stand for 600,000, so a key of 5,000 calls a day gets 167. Every few hours the
sandbox's clock and ours move on together; then image sync and data sync run side by side, both as
they are, until nothing is due or until slow mode would have spent its part of the day.

What changes in a day (`Churn`), in parts of all listings, from what is known of Etsy's furniture:
listings run four months, so 0.8 % are renewed; an archive of four months holds a fifth more images
than the listings of one day have, so 0.2 % are new and as many end; 0.4 % change their price. The
sum, 1.6 %, is twenty times less than the 1 % an hour under which a pass must find everything.
Reviews: one a day for each 20 shops, taken at a guess.
"""

import argparse
import logging
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from rich.console import Console

from bench.month_simulation import REAL_LISTINGS, Figures, Month, simulate
from bench.rows import Row, print_rows
from furnisync.config import Settings


def as_rows(month: Month, figures: Figures) -> list[Row]:
    """The month for the bench table."""
    total = sum(figures.calls.values())
    spent = ", ".join(
        f"{name} {number / total:.0%}"
        for name, number in sorted(figures.calls.items(), key=lambda one: -one[1])
    )
    of = f"{month.qpd:,} calls a day for {REAL_LISTINGS:,} listings"
    allowed = month.scaled_qpd * figures.days
    read = "not read yet" if figures.first_pass_days is None else ""
    return [
        Row(what=f"days until all was read once, {of}",
            value=figures.first_pass_days or figures.days, how=read),
        Row(what="median age of what we hold, days", value=figures.median_age,
            how=f"each day from the middle of {figures.days:.0f} days on; at the end"
            f" {figures.missing} of {figures.active:,} active listings are not held yet"),
        Row(what="95th percentile of that age, days", value=figures.p95_age),
        Row(what="new listings found within a day", unit="%", value=figures.found_in_a_day or 0.0,
            how=f"of {figures.new:,} that were created after the first pass and lived a day"),
        Row(what="part of the month's calls that was used", unit="%", value=total / allowed,
            how=spent),
    ]  # fmt: skip


def run(*, quick: bool) -> list[Row]:
    """A month at 5,000 calls a day."""
    month = Month(listings=600, days=2, qpd=100_000) if quick else Month()
    with TemporaryDirectory() as folder:
        return as_rows(month, simulate(month, Path(folder)))


def main() -> int:
    """`python -m bench.month`."""
    parser = argparse.ArgumentParser(prog="python -m bench.month", description=__doc__)
    parser.add_argument("--qpd", type=int, default=5_000, help="calls a day of the real key")
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--listings", type=int, default=20_000)
    parser.add_argument("--step-h", type=float, default=3.0)
    parser.add_argument("--whole-shops", action="store_true", help="data sync reads shops' lists")
    parser.add_argument("--setting", action="append", default=[], metavar="SECTION.NAME=VALUE")
    given = parser.parse_args()
    sections: dict[str, dict[str, Any]] = {}
    for setting in given.setting:
        name, _, value = setting.partition("=")
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = msgspec.json.decode(value)
    month = Month(
        listings=given.listings,
        qpd=given.qpd,
        days=given.days,
        step_h=given.step_h,
        furniture_only=not given.whole_shops,
        settings=msgspec.convert(sections, Settings),
    )
    logging.disable(logging.WARNING)
    console = Console()
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        figures = simulate(month, Path(folder), lambda line: console.print(line, highlight=False))
    print_rows(console, [("month", as_rows(month, figures))])
    console.print(f"{time.monotonic() - began:.0f} s; states that disagree: {figures.states_wrong}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
