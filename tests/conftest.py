"""Unit tests: rules and databases, without processes and without a network.

All tests of the folders in `UNIT_FOLDERS` are unit tests, except those marked `processes`. A unit
test that starts a process or uses a network fails, under `make test` too, so that `make test-unit`
stays the quick inner loop.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# Hundreds of processes are started. Without files of bytecode each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

UNIT_FOLDERS = {"analysis", "history", "quota", "rules"}
REFUSED = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system",
    "socket.bind", "socket.connect", "subprocess.Popen",
}  # fmt: skip
"""Audit events: Python itself reports them, whatever library causes them."""

_running: pytest.Item | None = None


def pytest_collection_modifyitems(items):
    for item in items:
        folder = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        if folder in UNIT_FOLDERS and item.get_closest_marker("processes") is None:
            item.add_marker("unit")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global _running  # noqa: PLW0603 - an audit hook gets no argument of ours
    _running = item if item.get_closest_marker("unit") else None
    try:
        return (yield)
    finally:
        _running = None


def _refuse(event, _arguments):
    if _running is not None and event in REFUSED:
        pytest.fail(f"a unit test caused {event}: mark it with `processes`, or do without")


sys.addaudithook(_refuse)
