"""Runs tests on other days and in other time zones: `python -m tools.try_dates [TEST ...]`.

It needs `faketime`. Without arguments it takes few tests of each kind, for CI; the whole of it is

    python -m tools.try_dates tests/sandbox tests/sync tests/collect tests/coverage
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ZONES = Path("/usr/share/zoneinfo")
WRONG_SURROUNDINGS = 2
AT_ONCE = 2

MOMENTS = (
    ("2026-11-23T12:00:00+00:00", "UTC"),
    ("2026-11-25T23:59:50-05:00", "America/New_York"),
    ("2026-12-31T23:59:50+14:00", "Pacific/Kiritimati"),
    ("2027-03-28T00:59:50+00:00", "Europe/Berlin"),  # summer time begins ten seconds later
    ("2028-02-29T23:59:50+05:30", "Asia/Kolkata"),
    ("2031-06-01T12:00:00+00:00", "UTC"),
)
"""When the tests begin, and in which time zone: most see a day end."""

TESTS = (
    "tests/sandbox/test_sandbox_world.py::test_the_same_seed_makes_the_same_world",
    "tests/sandbox/test_sandbox_world.py::test_titles_are_as_odd_as_real_ones",
    "tests/sandbox/test_sandbox_world.py::test_env_and_kill",
)


def main(arguments: Sequence[str]) -> int:
    """Run the tests at each moment, and tell what failed.

    Returns:
        the exit status: 0, 1 where tests failed, 2 where CI lacks what this needs.
    """
    if lacking := _find_lacking():
        in_ci = "CI" in os.environ
        print(f"{'not run' if in_ci else 'skipped'}: {lacking}", flush=True)
        return WRONG_SURROUNDINGS if in_ci else 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(lambda moment: _run(moment, arguments or TESTS), MOMENTS))
    return 1 if any(statuses) else 0


def _find_lacking() -> str | None:
    if shutil.which("faketime") is None:
        return "tests on other days need the program `faketime` (on Debian: apt install faketime)"
    missing = [zone for _, zone in MOMENTS if not (ZONES / zone).exists()]
    return f"no time zone {missing[0]} here (on Debian: apt install tzdata)" if missing else None


def _run(moment: tuple[str, str], tests: Sequence[str]) -> int:
    when, zone = moment
    # An offset and not a moment: with that each process would begin at the moment anew.
    offset_s = round(datetime.fromisoformat(when).timestamp() - time.time())
    paths = [str(Path(__file__).with_name("faketime")), os.environ.get("PYTHONPATH", "")]
    told = {
        "TZ": zone,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "not slow"]
    ended = subprocess.run(
        ["faketime", "-m", "-f", f"{offset_s:+d}s", *pytest, *tests],
        cwd=ROOT,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"{when} in {zone}\n{ended.stdout}", flush=True)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
