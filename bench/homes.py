"""A home for a bench, the commands that run on it as processes, and what these cost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from furnisync.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parent.parent
DAY_S = 86_400
LOOK_EVERY_S = 0.05
SMALL_IMAGES = {"images_mean": 1, "image_bytes": 3000, "pictures": 4}
"""Sandbox options for benches that count calls: images as cheap as can be."""


class BenchError(RuntimeError):
    """What was to be measured did not run."""


class Running:
    """A command under way; `began` is a unix time of the sandbox."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, began: float) -> None:
        self.pid = process.pid
        self.began = began
        self.peak_mb = 0.0
        self._process = process
        self._log = log

    def alive(self) -> bool:
        """Whether it still runs; notes its memory on the way."""
        self.peak_mb = max(self.peak_mb, peak_mb(self.pid))
        return self._process.poll() is None

    def finish(self, timeout_s: float = 600.0) -> None:
        """Wait for its end.

        Raises:
            BenchError: it failed or takes too long.
        """
        self.watch(lambda: False, timeout_s)
        if self._process.returncode != 0:
            raise BenchError(f"status {self._process.returncode}:\n{self._log.read_text()[-3000:]}")

    def watch(self, seen: Callable[[], object], timeout_s: float = 600.0) -> None:
        """Wait until something is seen or the command ends.

        Raises:
            BenchError: neither happened in time.
        """
        end = time.monotonic() + timeout_s
        while self.alive() and not seen():
            if time.monotonic() > end:
                self.stop()
                raise BenchError(f"not within {timeout_s:g} s:\n{self._log.read_text()[-3000:]}")
            time.sleep(LOOK_EVERY_S)

    def sleep(self, seconds: float) -> None:
        """Let it run so long.

        Raises:
            BenchError: it ended before.
        """
        end = time.monotonic() + seconds
        self.watch(lambda: time.monotonic() >= end)
        if time.monotonic() < end:
            raise BenchError(f"it ended too early:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, then make it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=6)
        except subprocess.TimeoutExpired:
            self.kill()


class Home:
    """A folder with settings, pointed at a sandbox."""

    def __init__(self, path: Path, sandbox: SandboxProcess, **settings: dict[str, object]) -> None:
        """Make the folder; `settings` are the sections of furnisync.toml."""
        self.path = path
        self._sandbox = sandbox
        self._commands = 0
        path.mkdir(exist_ok=True)
        lines = []
        for section, values in settings.items():
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        (path / "furnisync.toml").write_text("\n".join(lines) + "\n", "utf-8")

    def start(self, *arguments: str) -> Running:
        """Start `furnisync ARGUMENTS` at the sandbox's time."""
        self._commands += 1
        log = self.path / f"command{self._commands}.log"
        environment = {
            **os.environ,
            **self._sandbox.env,
            "FURNISYNC_HOME": str(self.path),
        }
        with log.open("wb") as out:
            began = self._sandbox.now()
            process = subprocess.Popen(
                [sys.executable, "-m", "furnisync", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment,
            )
        return Running(process, log, began)

    def run(self, *arguments: str) -> Running:
        """Run a command to its end."""
        running = self.start(*arguments)
        running.finish()
        return running


def peak_mb(pid: int) -> float:
    """The most memory that a process has had so far, in MB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
    except FileNotFoundError:
        return 0.0 if Path("/proc/self/status").exists() else _memory_mb(pid)
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields.get("VmHWM", "0 kB").split()[0]) * 1024 / 1e6


def _memory_mb(pid: int) -> float:
    """What it has now, on systems without /proc."""
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return int(found or 0) * 1024 / 1e6


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used so far.

    Raises:
        BenchError: this system does not tell.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    except FileNotFoundError as error:
        raise BenchError("this bench needs /proc (Linux)") from error
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget_cached(path: Path) -> None:
    """Put a file's pages out of the system's memory, as after a reboot, where that can be done."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
