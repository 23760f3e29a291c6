"""Several real processes on one file: together under the limit, by their shares, dead at any time.

Nothing here waits for a time: each process says each grant, and the tests count those.
"""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from quota_world import FakeEtsy, call, most_in_a_second, open_ledger, run

from furnisync.clock import SystemClock
from furnisync.quota.lease import LEASE_S
from furnisync.quota.ledger import read_state

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]


class Process:
    """One program; its grants are collected as it says them."""

    def __init__(self, path: Path, program: str, limit: float, callers: int = 10) -> None:
        command = [str(Path(__file__).with_name("ledger_process.py")), str(path), program]
        self._process = subprocess.Popen(
            [sys.executable, *command, str(limit), str(callers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        self.granted: list[float] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            if line.endswith("\n"):
                with self._said:
                    self.granted.append(float(line))
                    self._said.notify_all()

    def wait_for(self, calls: int) -> None:
        """Until it has been granted so many calls."""
        with self._said:
            assert self._said.wait_for(lambda: len(self.granted) >= calls, timeout=60)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def end(self) -> None:
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._reader.join()


@contextlib.contextmanager
def running(path: Path, *programs: str, limit: float = 100, callers: int = 10):
    processes = [Process(path, program, limit, callers) for program in programs]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def test_two_programs_keep_the_limit_and_their_shares(tmp_path: Path) -> None:
    with running(tmp_path / "quota.db", "images", "data") as (images, data):
        images.wait_for(1)
        data.wait_for(140)
        images.end()
        data.end()
    both = sorted(images.granted + data.granted)
    assert most_in_a_second(both) <= 100
    first, last = max(images.granted[0], data.granted[0]), min(images.granted[-1], data.granted[-1])
    contended = [sum(first <= at <= last for at in one.granted) for one in (images, data)]
    assert contended[0] / sum(contended) == pytest.approx(0.60, abs=0.08)


def test_three_processes_of_two_programs_keep_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "quota.db"
    with running(path, "images", "data", "images", limit=200, callers=20) as processes:
        for process in processes:
            process.wait_for(100)
        for process in processes:
            process.end()
    granted = [at for process in processes for at in process.granted]
    assert most_in_a_second(granted) <= 200
    assert read_state(path, None, SystemClock()).used_last_day == len(granted)


def test_killed_at_any_instant_it_goes_on_as_it_is(tmp_path: Path) -> None:
    path, said = tmp_path / "quota.db", 0
    for calls in (1, 2, 7, 20, 33):
        with running(path, "images", "data", limit=200) as (killed, witness):
            killed.wait_for(calls)
            killed.kill()
            before = len(witness.granted)
            witness.wait_for(before + 20)  # not held up by what the dead one left
        said += len(killed.granted) + len(witness.granted)
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        used = connection.execute("SELECT sum(calls) FROM usage").fetchone()[0]
        connection.close()
        # Granted or leased, and killed before it could be said.
        assert said <= used <= said + 2 * 200 * LEASE_S
        said = used
    ledger = open_ledger(tmp_path, SystemClock(), key_id="key")
    assert ledger.state().in_flight == 0  # the dead wait for no answer
    ledger.close()


def test_an_idle_program_takes_nothing_from_the_other(tmp_path: Path, clock) -> None:
    """The dead one's word in line is still fresh; its turns are taken by the living."""
    dead, alive = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock, "data")
    etsy = FakeEtsy(clock)

    async def main() -> float:
        await call(alive, etsy)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.gather(*(dead.acquire("batch") for _ in range(5)))
        started = clock.mono
        await asyncio.gather(*(call(alive, etsy) for _ in range(90)))
        return clock.mono - started

    assert run(clock, main()) <= 1.03 + 0.1
