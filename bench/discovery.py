"""A whole discovery with 6 images a listing: the rate it keeps, and its CPU by a bare script's.

The limit is 100 calls a second and each answer takes 150 ms. No image is downloaded on the way
(`images.fast_per_second` is as low as can be), so that calls are all that costs. The bare script is
`bench.bare_crawl`; both read the same world from the same server, in turns.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.homes import ROOT, Home, cpu_s
from bench.rate import LIMIT, TARGET
from bench.rows import Row
from furnisync.sandbox.process import SandboxProcess

WORLD = {"images_mean": 6, "image_bytes": 3000, "pictures": 4}
RAMP_CALLS = 4
"""The first calls go alone, to learn the limits."""


def run(*, quick: bool) -> list[Row]:
    """Both sides in turns; medians."""
    listings, rounds = (400, 1) if quick else (11_000, 3)
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    world = {**WORLD, "shops": listings // 40, "listings": listings}
    with SandboxProcess(**world, qps=LIMIT, qpd=10**9, latency_ms=150) as sandbox:
        for _ in range(rounds):
            with TemporaryDirectory() as folder:
                ours.append(_measure_ours(Path(folder), sandbox))
            with TemporaryDirectory() as folder:
                bare.append(_measure_bare(Path(folder), sandbox, listings))
        refused = sandbox.asked()["refused"]
    a_call, bare_call = (
        statistics.median(one["cpu_s"] / one["calls"] for one in side) for side in (ours, bare)
    )
    rate, bare_rate = (
        statistics.median(one["calls"] / one["seconds"] for one in side) for side in (ours, bare)
    )
    return [
        Row(what="whole discovery, 6 images a listing: share of 90 calls a second",
            value=rate / TARGET, unit="%", at_least=0.97,
            how=f"{rate:.0f} calls a second; the bare script {bare_rate:.0f}"),
        Row(what="image sync, CPU a call by the bare script's", value=a_call / bare_call,
            at_most=1.6, how=f"{a_call * 1000:.1f} ms by {bare_call * 1000:.1f} ms"),
        Row(what="calls answered 429", value=refused, at_most=0, how="of both sides"),
    ]  # fmt: skip


def _measure_ours(folder: Path, sandbox: SandboxProcess) -> dict[str, float]:
    """From the first calls to the last one."""
    home = Home(folder, sandbox, images={"fast_per_second": 0.5})
    sandbox.reset_asked()
    running = home.start("images", "--fast")
    running.watch(lambda: sandbox.asked()["total"] >= RAMP_CALLS)
    before, cpu, began = sandbox.asked()["total"], cpu_s(running.pid), sandbox.now()
    calls, ended, spent = before, began, cpu
    while running.alive() and sandbox.now() - ended < 1:
        running.sleep(0.2)
        if (total := sandbox.asked()["total"]) > calls:
            calls, ended, spent = total, sandbox.now(), cpu_s(running.pid)
    running.stop()
    return {"calls": calls - before, "cpu_s": spent - cpu, "seconds": ended - began}


def _measure_bare(folder: Path, sandbox: SandboxProcess, listings: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.bare_crawl", str(folder / "bare.db"), str(listings)]
    ended = subprocess.run(
        [*command, str(TARGET)],
        env={**os.environ, **sandbox.env},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    measured: dict[str, float] = json.loads(ended.stdout)
    return measured
