"""The two services on a small disk, kept as their units say, and one clock for everybody."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.processes import later
from support.small_disk import SmallDisk

from furnisync.ops.service.service import JOBS, Job, Service, mark_home
from furnisync.ops.service.systemd import render_unit
from furnisync.sandbox.process import SandboxProcess

SYSTEMD = 255
"""The version whose units are run: its first pause after a crash is 10 s, not 60."""
MB = 1e6
SAMPLE_EVERY_S = 1.0
YOUNG_S = 10.0
"""A process that is younger is still loading its code; its memory says nothing."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ENDED_WELL = (0, -signal.SIGTERM)
"""What systemd takes for a clean end of a unit; no restart follows."""


@dataclass(frozen=True)
class Unit:
    """What of a unit file this supervisor obeys: program, surroundings, end and restart."""

    command: list[str]
    folder: Path
    environment: dict[str, str]
    restart_s: float
    no_restart: int
    stop_s: float

    @classmethod
    def of(cls, job: Job, home: Path) -> Unit:
        """Read the unit that `service install` would write."""
        text = render_unit(Service(job, home, home, Path(sys.executable)), SYSTEMD)
        said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        assert (said["Restart"], said["KillSignal"]) == ("on-failure", "SIGTERM")
        program, *arguments = _words(said["ExecStart"])
        return cls(
            [program.removeprefix(":"), *arguments],
            Path(said["WorkingDirectory"].removeprefix("-").replace("%%", "%")),
            dict(word.split("=", 1) for word in _words(said["Environment"])),
            float(said["RestartSec"]),
            int(said["RestartPreventExitStatus"]),
            float(said["TimeoutStopSec"]),
        )

    def surroundings(self, offset_s: float) -> dict[str, str]:
        """The environment of the unit, and the clock; nothing of our shell may steer it."""
        mine = ("ETSY_", "FURNISYNC_", "PYTHON", "FORCE_COLOR")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        return {**clean, **self.environment, "FURNISYNC_CLOCK_OFFSET_S": str(offset_s)}


def _words(line: str) -> list[str]:
    return [word.replace("%%", "%") for word in shlex.split(line)]


@dataclass(frozen=True)
class Sample:
    """The memory of one process at one time."""

    at_s: float
    job: Job
    life: int
    rss_mb: float


class Supervised:
    """One service, kept as systemd keeps it."""

    def __init__(self, job: Job, disk: SmallDisk, journal: Path) -> None:
        self.job = job
        self.unit = Unit.of(job, disk.at)
        self.lives = 0
        self.crashes: list[int] = []
        self.restarts = 0
        self.samples: list[Sample] = []
        self._disk = disk
        self._journal = journal
        self._offset_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._due: float | None = None

    def start(self, offset_s: float) -> None:
        """Start the unit's command; the clock's offset is the one thing that no unit says."""
        self._offset_s = offset_s
        with self._journal.open("ab") as journal:
            self._process = subprocess.Popen(
                self._disk.inside(self.unit.command, self.unit.folder),
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                env=self.unit.surroundings(offset_s),
            )
        self._started_at = time.monotonic()
        self.lives += 1
        self._due = None

    def tend(self) -> None:
        """Start it again after a crash, when the unit's pause is over; look at its memory."""
        now = time.monotonic()
        if self._process is None:
            if self._due is not None and now >= self._due:
                self.restarts += 1
                self.start(self._offset_s)
            return
        status = self._process.poll()
        if status is None:
            self._sample(now)
            return
        self._process = None
        words = f"{self.job} ended ({status}): {self.words()[-2000:]}"
        assert status not in (*ENDED_WELL, self.unit.no_restart), words
        self.crashes.append(status)
        self._due = now + self.unit.restart_s

    def _sample(self, now: float) -> None:
        if now - self._started_at < YOUNG_S or self._process is None:
            return
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        self.samples.append(Sample(now, self.job, self.lives, pages * PAGE_BYTES / MB))

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def stop(self) -> None:
        """End it cleanly, as `service stop` does."""
        if self._process is None:
            self._due = None
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            assert process.wait(self.unit.stop_s) in ENDED_WELL, f"{self.job}: {process.returncode}"
        finally:
            process.kill()
            process.wait()

    def words(self) -> str:
        path = self._disk.seen / "logs" / f"{self.job}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""


@dataclass
class World:
    """The sandbox, the disk and the services; whoever lets time pass here looks after them."""

    sandbox: SandboxProcess
    disk: SmallDisk
    services: dict[Job, Supervised]
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def make(cls, tmp_path: Path, sandbox: SandboxProcess, settings: str, size_mb: int) -> World:
        disk = SmallDisk(tmp_path / "home", size_mb)
        key = disk.seen / ".env"
        key.write_text("".join(f"{name}={value}\n" for name, value in sandbox.env.items()))
        key.chmod(0o600)
        (disk.seen / "furnisync.toml").write_text(settings)
        mark_home(disk.seen)  # as `furnisync service install` does
        services = {job: Supervised(job, disk, tmp_path / f"{job}.journal") for job in JOBS}
        return cls(sandbox, disk, services)

    def until(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Let time pass until something holds."""
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < end, f"not so within {timeout_s:.0f} s: {what}"
            for service in self.services.values():
                service.tend()
            time.sleep(SAMPLE_EVERY_S)
        return found

    def live_until(self, second: float) -> None:
        """Let time pass up to a second of the soak; this is its length, not a wait for something.

        That is what a soak is: time under load.
        """
        self.until(lambda: time.monotonic() >= self.began + second, second + 60, "the clock runs")

    def start(self, *jobs: Job) -> None:
        for job in jobs or JOBS:
            self.services[job].start(self.sandbox.clock_offset_s)

    def stop(self, *jobs: Job) -> None:
        for job in jobs or JOBS:
            self.services[job].stop()

    def move(self, days: float) -> None:
        """The computer is off for some days; a process keeps the clock that it began with."""
        self.stop()
        later(self.sandbox, days)
        self.start()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of furnisync, on the disk while the services run."""
        unit = self.services["images"].unit
        return subprocess.run(
            self.disk.inside([sys.executable, "-m", "furnisync", *arguments], unit.folder),
            env=unit.surroundings(self.sandbox.clock_offset_s),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def take_home(self, to: Path) -> Path:
        """A copy of the home on a plain disk, where every helper can read it."""
        shutil.copytree(self.disk.seen, to, symlinks=True)
        return to

    def close(self, keep_logs_in: Path) -> None:
        for service in self.services.values():
            if service.runs:
                service.kill()
        # The disk vanishes; whoever looks into a failure wants to read on.
        if (logs := self.disk.seen / "logs").exists():
            shutil.copytree(logs, keep_logs_in)
        self.disk.close()


def median_mb(samples: list[Sample], begin: float, end: float) -> float:
    found = [one.rss_mb for one in samples if begin <= one.at_s < end]
    assert len(found) >= 5, "too few samples to tell a median"
    return statistics.median(found)
