"""A home whose syncs run as real processes, and waiting for what they do."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furnisync.clock import OFFSET_VARIABLE
from furnisync.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parents[2]
FREE = {"qps": 10**6, "qpd": 10**9}
"""Limits that no test meets."""
DEADLINE_S = 120.0
DAY_S = 86_400.0

Row = tuple[Any, ...]


@dataclass
class Ended:
    status: int
    out: str


class Run:
    """A running process; its words go into a file, as with nohup."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.log = log

    @property
    def words(self) -> str:
        return self.log.read_text("utf-8")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = DEADLINE_S) -> Ended:
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {timeout_s} s:\n{self.words}") from None
        return Ended(status, self.words)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Wait for a condition while the process runs; returns what it said."""

        def holds() -> Any:
            found = condition()
            assert found or self.process.poll() is None, f"ended too early:\n{self.words}"
            return found

        return until(holds, timeout_s)


def until(condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not so within {timeout_s} s"
        time.sleep(0.02)
    return found


def later(sandbox: SandboxProcess, days: float) -> None:
    """Let time pass, for the sandbox and for every process that is started on it afterwards."""
    sandbox.move_clock(days * DAY_S)


def surroundings(sandbox: SandboxProcess | None, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that finds the sandbox, at the sandbox's time; `env` on top.

    A clock offset in `env` is a wrong clock: it says by how much it is ahead of the sandbox's.
    """
    mine = ("ETSY_", "FURNISYNC_")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(mine) and name != "FORCE_COLOR"
    }
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    clean["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    found = {**clean, **({} if sandbox is None else sandbox.env), **env}
    if sandbox is not None and OFFSET_VARIABLE in env:
        found[OFFSET_VARIABLE] = str(sandbox.clock_offset_s + float(env[OFFSET_VARIABLE]))
    return found


class ProcessHome:
    """A folder with settings, what runs on it and what lies in its databases.

    Attributes:
        job: the command that `start` runs.
        database: the file that `rows` reads.
    """

    job = "images"
    database = "catalog.db"

    def __init__(self, path: Path, sandbox: SandboxProcess | None, **sections: Any) -> None:
        """Make the folder; `sections` are those of furnisync.toml."""
        self.path = path
        self.sandbox = sandbox
        self.env: dict[str, str] = {}
        self._runs = 0
        path.mkdir(exist_ok=True)
        self.configure(**sections)

    def configure(self, **sections: dict[str, Any]) -> None:
        sections = {**sections, "images": {"min_free_mb": 0, **sections.get("images", {})}}
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        (self.path / "furnisync.toml").write_text("\n".join(lines) + "\n")

    def inside(self, command: list[str]) -> list[str]:
        """The command that is run; replaced where it runs elsewhere, as in a mount namespace."""
        return command

    def environment(self) -> dict[str, str]:
        return surroundings(self.sandbox, {"FURNISYNC_HOME": str(self.path), **self.env})

    def later(self, days: float) -> None:
        """Let time pass, for the sandbox and for what is started afterwards."""
        assert self.sandbox is not None
        later(self.sandbox, days)

    def now(self) -> float:
        """Unix time in seconds by the clock of what is started here."""
        offset_s = float(self.environment().get(OFFSET_VARIABLE, 0))
        return time.time() + offset_s

    def start(
        self,
        *arguments: str,
        command: Iterable[str] | None = None,
        limits: dict[int, int] | None = None,
    ) -> Run:
        """Start the job, or another command of python's; `limits` are those of `setrlimit`."""
        self._runs += 1
        log = self.path.parent / f"{self.path.name}.{self._runs}.log"

        def limit() -> None:
            for what, most in (limits or {}).items():
                resource.setrlimit(what, (most, resource.getrlimit(what)[1]))

        with log.open("wb") as file:
            process = subprocess.Popen(
                self.inside(
                    [sys.executable, "-u", *(command or ("-m", "furnisync", self.job)), *arguments]
                ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment(),
                preexec_fn=limit if limits else None,  # noqa: PLW1509
            )
        return Run(process, log)

    def rows(self, sql: str, *values: object, name: str | None = None) -> list[Row]:
        """Rows of a database, none where it or its tables are not there yet."""
        path = self.path / (name or self.database)
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def number(self, sql: str, *values: object) -> int:
        rows = self.rows(sql, *values)
        return int(rows[0][0]) if rows and rows[0][0] is not None else 0
