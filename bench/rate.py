"""How much of the allowed rate is used in fast mode, by the log of the sandbox.

The limit is 100 calls a second, each answer takes 150 ms. The pace is then 90 a second (the most
that fast mode takes, `quota.fast_per_second`). First image sync runs alone, then data sync joins.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.homes import SMALL_IMAGES, BenchError, Home, Running
from bench.rows import Row
from furnisync.sandbox.process import SandboxProcess

TARGET = 90.0
LIMIT = 100
RAMP_S = 2.0
QUICK_S = 0.5
"""The steady part begins so long after the first call: that goes alone, to learn the limits."""


def run(*, quick: bool) -> list[Row]:
    """Both phases over one run."""
    seconds, ramp_s = (QUICK_S, QUICK_S) if quick else (15.0, RAMP_S)
    listings = round(TARGET * 100 / 2 * (1.6 * seconds + 4 * ramp_s) * 1.3)
    world = {"shops": listings // 45, "listings": listings, **SMALL_IMAGES}
    with SandboxProcess(**world, qps=LIMIT, qpd=10**9, latency_ms=150) as sandbox:
        with TemporaryDirectory() as folder:
            images = {"which": "primary", "fast_per_second": 50.0}
            spans, calls = _run_phases(
                Home(Path(folder), sandbox, images=images), sandbox, seconds, ramp_s
            )
        asked = sandbox.asked(log=True)
    if asked["log"][-1]["time"] < spans["both"][1]:
        raise BenchError("the work ran out before the time did")
    rows = []
    for name, what in (("alone", "image sync alone"), ("both", "image and data sync at once")):
        share = _share([call["time"] for call in asked["log"]], *spans[name])
        rows.append(Row(what=f"{what}: share of 90 calls a second", value=share, unit="%",
                        at_least=0.97, how=f"of a steady {seconds:g} s"))  # fmt: skip
    rows.append(Row(what="share of image sync while both run", unit="%",
                    value=calls["images"] / max(1, calls.total()),
                    how="60 % by default (quota.images_share_percent)"))  # fmt: skip
    most = asked["most_in_a_second"]
    rows.append(Row(what="calls answered 429", value=asked["refused"], at_most=0,
                    how=f"at most {most} calls in any second of the limit's {LIMIT}"))  # fmt: skip
    return rows


def _run_phases(
    home: Home, sandbox: SandboxProcess, seconds: float, ramp_s: float
) -> tuple[dict[str, tuple[float, float]], Counter[str]]:
    """Run image sync, later data sync too.

    Returns:
        the steady spans by the sandbox's time, and the calls of each program in the second one.
    """
    images = home.start("images", "--fast")
    alone = _steady(images, sandbox, seconds, ramp_s)
    before = sandbox.asked()["calls"].keys()
    data = home.start("data", "--fast")
    data.watch(lambda: sandbox.asked()["calls"].keys() - before)
    calls = _calls_by_program(home)
    both = _steady(images, sandbox, seconds, ramp_s)
    calls = _calls_by_program(home) - calls
    for each in (images, data):
        each.stop()
    return {"alone": alone, "both": both}, calls


def _steady(
    running: Running, sandbox: SandboxProcess, seconds: float, ramp_s: float
) -> tuple[float, float]:
    running.watch(lambda: sandbox.asked()["total"])
    running.sleep(ramp_s)
    began = sandbox.now()
    running.sleep(seconds)
    return began, sandbox.now()


def _share(instants: list[float], first: float, last: float) -> float:
    return sum(first <= at < last for at in instants) / (TARGET * (last - first))


def _calls_by_program(home: Home) -> Counter[str]:
    """By the ledger: the calls themselves do not tell, as both ask batch for the same."""
    path = home.path / "quota.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
        return Counter(dict(ledger.execute("SELECT program, sum(calls) FROM usage GROUP BY 1")))
