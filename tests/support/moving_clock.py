"""Runs `furnisync` under a wall clock that a test sets while it runs.

    python moving_clock.py FILE ARGUMENT...

`FILE` has the seconds to add; it is read each time. libfaketime can do this too, but it shows some
threads the true time now and then.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

_true_time = time.time


def _follow(offset: Path) -> None:
    time.time = lambda: _true_time() + float(offset.read_text())


if __name__ == "__main__":
    _follow(Path(sys.argv.pop(1)))
    runpy.run_module("furnisync", run_name="__main__", alter_sys=True)
