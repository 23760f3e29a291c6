"""How much of the allowed rate the quota ledger lets through, and what it costs.

    python bench/quota.py [--seconds 10]

Each process runs 40 callers that acquire, wait 150 ms (the API's latency) and settle, in fast
mode at 90 calls a second. `share` is what was granted between the first and the last tenth of a
run against what the pace allows in that time; `most in a second` is over all processes, against a
limit of 100. `CPU` is all of the process's, so the event loop's as well, by call.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.rows import Row
from furnisync.clock import SystemClock
from furnisync.config import QuotaSettings
from furnisync.quota.ledger import Ledger, read_headers

CALLERS = 40
LATENCY_S = 0.150
TARGET = 90.0
LIMIT = 100
SPAN = 0.9
"""Start and end of a run do not count: the first call goes alone, the last ones run out."""


async def call_until(ledger: Ledger, end: float, granted: list[float]) -> None:
    """One caller."""
    headers = {
        "x-limit-per-second": str(LIMIT),
        "x-remaining-this-second": "8",
        "x-limit-per-day": "100000",
        "x-remaining-today": "90000",
    }
    while time.monotonic() < end:
        await ledger.acquire("batch")
        granted.append(time.monotonic())
        await asyncio.sleep(LATENCY_S)
        ledger.settle("batch", read_headers(200, headers, time.time()))


async def run_callers(path: Path, program: str, end: float) -> dict[str, object]:
    """One process's part."""
    ledger = Ledger(path, "bench", program, "fast", QuotaSettings(), SystemClock())
    granted: list[float] = []
    cpu = time.process_time()
    callers = [call_until(ledger, end, granted) for _ in range(CALLERS)]
    await asyncio.gather(*callers)
    cpu = time.process_time() - cpu
    ledger.close()
    return {"granted": granted, "cpu_s": cpu}


def run_processes(programs: list[str], seconds: float) -> list[dict[str, Any]]:
    """Run one process a program on one ledger, to the same end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--path", f"{folder}/quota.db"]
        running = [
            subprocess.Popen(
                [*command, "--program", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for name in programs
        ]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()  # it has started, however busy the machine is
        end = f"{time.monotonic() + seconds}\n".encode()
        for process in running:
            assert process.stdin is not None
            process.stdin.write(end)
            process.stdin.flush()
        return [json.loads(process.communicate()[0]) for process in running]


def most_in_a_second(instants: list[float]) -> int:
    """The fullest second, wherever it begins."""
    return max(bisect_right(instants, at + 1.0) - bisect_left(instants, at) for at in instants)


class Outcome(NamedTuple):
    """What some processes were granted together.

    Attributes:
        share: of what the pace allows.
        parts: of each process in it.
        most: calls in the fullest second.
        cpu_ms: for each call.
    """

    share: float
    parts: list[float]
    most: int
    cpu_ms: float


def measure(programs: list[str], seconds: float) -> Outcome:
    """Run them, and judge the steady part."""
    results = run_processes(programs, seconds)
    instants = sorted(at for result in results for at in result["granted"])
    end = max(instants)
    first = max(min(result["granted"]) for result in results) + seconds * (1 - SPAN) / 2
    last = end - seconds * (1 - SPAN) / 2
    counts = [sum(first <= at < last for at in result["granted"]) for result in results]
    cpu_ms = 1000 * sum(result["cpu_s"] for result in results) / len(instants)
    return Outcome(
        share=sum(counts) / (TARGET * (last - first)),
        parts=[count / sum(counts) for count in counts],
        most=most_in_a_second(instants),
        cpu_ms=cpu_ms,
    )


def report(programs: list[str], seconds: float) -> str:
    """One row of the table."""
    found = measure(programs, seconds)
    parts = " : ".join(f"{100 * part:.1f} %" for part in found.parts)
    return (
        f"| {' + '.join(programs):13} | {100 * found.share:.1f} % | {parts:15} |"
        f" {found.most} | {found.cpu_ms:.2f} |"
    )


def run(*, quick: bool) -> list[Row]:
    """The shares for the table of `python -m bench`."""
    rows = []
    for programs in [["images", "data"]] if quick else [["images"], ["images", "data"]]:
        found = measure(programs, 0.5 if quick else 10.0)
        how = f"at most {found.most} in any second of the limit's {LIMIT}"
        rows.append(
            Row(what=f"the ledger alone, {' and '.join(programs)}: share of 90 calls a second",
                value=found.share, unit="%", at_least=0.97,
                how=f"{how}; {found.cpu_ms:.1f} ms of CPU a call")
        )  # fmt: skip
    return rows


def main() -> None:
    """Print the table, or be one of its processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    for hidden in ("--path", "--program"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.path:
        print("ready", flush=True)
        end = float(sys.stdin.readline())
        part = run_callers(Path(given.path), given.program, end)
        print(json.dumps(asyncio.run(part)))
        return
    print("| processes     | share  | parts           | most in a second | CPU ms/call |")
    print("| ---           | ---    | ---             | ---              | ---         |")
    for programs in (["images"], ["images", "data"]):
        print(report(programs, given.seconds))


if __name__ == "__main__":
    main()
