"""`make bench`: measures everything that is promised and prints one table.

    python -m bench [--only NAME ...] [--quick] [--json FILE]

| bench         | measures                                                        | takes, minutes |
| ------------- | --------------------------------------------------------------- | -------------- |
| calls         | API calls of image sync and data sync                           | 1              |
| rate          | share of the allowed rate, one program and both                 | 1              |
| discovery     | a whole discovery: rate, CPU a call against a bare script       | 2              |
| quota         | the same of the ledger alone, and its CPU                       | 1              |
| download      | images a second and CPU against a bare loop                     | 1              |
| scale         | claims, start, status, memory at 10 million images (10 GB free) | 6              |
| history_write | rows a second against a bare `executemany`                      | 1              |
| history_scale | second data sync over 600,000 listings: first call, memory      | 2              |
| panel         | a panel against DuckDB and Polars                               | 1              |
| sandbox       | how fast the sandbox itself is                                  | 1              |
| churn         | listings found while the lists shift                            | 1              |
| month         | a simulated month at 5,000 calls a day: ages, new listings      | 5              |

Read ratios, not times: medians of several rounds, taken in turns. Other work on the machine
falsifies rates and starts most; the first line says how busy it was. `--quick` only shows that all
benches run: its worlds are too small for the limits to mean anything.
"""

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.homes import BenchError
from bench.rows import Row, print_rows

BENCHES = (
    "calls",
    "rate",
    "discovery",
    "quota",
    "download",
    "scale",
    "history_write",
    "history_scale",
    "panel",
    "sandbox",
    "churn",
    "month",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and tell.

    Returns:
        exit status: 1 where a promise is not kept or a bench failed, else 0; 0 with --quick unless
        a bench failed.
    """
    parser = argparse.ArgumentParser(prog="python -m bench", description=_first_line())
    parser.add_argument("--only", action="append", choices=BENCHES, metavar="NAME",
                        help=f"may be given several times: {', '.join(BENCHES)}")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a smoke run of a few seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    given = parser.parse_args(arguments)
    console = Console()
    load = os.getloadavg()[0]
    console.print(f"{os.cpu_count()} cores, load before the start {load:.1f}", highlight=False)
    found: list[tuple[str, list[Row]]] = []
    broken = False
    for name in given.only or BENCHES:
        began = time.monotonic()
        try:
            found.append((name, importlib.import_module(f"bench.{name}").run(quick=given.quick)))
        except BenchError as error:
            broken = True
            console.print(f"{name} could not be measured: {error}", style="bold red", markup=False)
        else:
            console.print(f"{name}: {time.monotonic() - began:.0f} s", highlight=False)
    print_rows(console, found)
    if given.json is not None:
        given.json.write_text(_as_json(found), "utf-8")
    missed = any(row.ok is False for _, rows in found for row in rows)
    return int(broken or (missed and not given.quick))


def _first_line() -> str:
    return (__doc__ or "").partition("\n")[0]


def _as_json(found: Sequence[tuple[str, Sequence[Row]]]) -> str:
    rows = [{"bench": name, **row.as_json()} for name, rows in found for row in rows]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
