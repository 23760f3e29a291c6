"""A home to be run as a service, and a systemd of its own to run it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.processes import FREE

from furnisync.sandbox.process import SandboxProcess

ODD = "a home, 100% $HOME \"ünï\" 'x' \\n"
"""A folder name with everything that a unit must quote."""
SMALL = {"shops": 10, "listings": 60, "images_mean": 1, "image_bytes": 2000, "pictures": 2}

SYSTEMD = Path("/usr/lib/systemd/systemd")

# A systemd of our own wants to believe that the machine was booted with it, a runtime folder, and
# a cgroup tree that it may write. All of it vanishes with the namespaces.
BOOT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/{uid}
chmod 700 /run/user/{uid}
mkdir -p /var/lib/systemd && mount -t tmpfs tmpfs /var/lib/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /sys/fs/cgroup/{group}
echo $$ > /sys/fs/cgroup/{group}/cgroup.procs
export XDG_RUNTIME_DIR=/run/user/{uid} SYSTEMD_LOG_TARGET=console
{systemd} --user >{log} 2>&1 &
wait
"""


def until(condition: Callable[[], Any], timeout_s: float = 60.0, what: object = "") -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not so within {timeout_s} s {what}"
        time.sleep(0.05)
    return found


def clean_environment() -> dict[str, str]:
    mine = ("ETSY_", "FURNISYNC_", "XDG_", "DBUS_")
    return {k: v for k, v in os.environ.items() if not k.startswith(mine) and k != "FORCE_COLOR"}


class OwnSystemd:
    """`systemd --user` in namespaces of its own; commands are run inside by `run`."""

    def __init__(self, user_home: Path) -> None:
        self.user_home = user_home
        self._group = f"furnisync-test-{os.getpid()}-{time.monotonic_ns()}"
        script = BOOT.format(
            uid=os.getuid(), group=self._group, systemd=SYSTEMD, log=shlex.quote(f"{user_home}.log")
        )
        self._outer = subprocess.Popen(
            ["unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc",
             "--propagation", "private", "bash", "-c", script],
            env={**clean_environment(), "HOME": str(user_home)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self._inner = int(until(lambda: children.read_text().split() or self._ended())[0])
        until(lambda: self._reachable() or self._ended(), 30)

    @property
    def enter(self) -> list[str]:
        """What to put before a command that shall run inside."""
        return ["nsenter", "-t", str(self._inner), "-m", "-p", "--"]

    def _ended(self) -> None:
        if self._outer.poll() is not None:
            words = self._outer.stdout.read().decode() if self._outer.stdout else ""
            raise OSError(f"no systemd of our own: {words}")

    def _reachable(self) -> bool:
        return self.run("systemctl", "--user", "show", "-p", "Version").returncode == 0

    def run(
        self, *command: str, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        inside = {
            **clean_environment(), "HOME": str(self.user_home),
            "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}", **env,
        }  # fmt: skip
        return subprocess.run(
            [*self.enter, *command],
            env=inside, cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def close(self) -> None:
        # The first process of a pid namespace takes all others along.
        if self._outer.poll() is None:
            os.kill(self._inner, signal.SIGKILL)
        self._outer.wait(10)
        for tree in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
            for folder, _, _ in os.walk(tree / self._group, topdown=False):
                until(lambda folder=folder: _removed(Path(folder)), 10)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


def start_systemd(user_home: Path) -> OwnSystemd:
    """A systemd of the test's own, or a skip with its reason."""
    programs = [str(SYSTEMD), "systemctl", "systemd-analyze", "unshare", "nsenter", "bash"]
    missing = [name for name in programs if shutil.which(name) is None]
    if sys.platform != "linux" or missing:
        pytest.skip(f"systemd cannot run here: no {', '.join(missing) or 'Linux'}")
    if os.getuid() != 0:
        pytest.skip("a systemd of the test's own needs root for its namespaces")
    try:
        return OwnSystemd(user_home)
    except OSError as error:
        pytest.skip(str(error))


def present_sandbox(**options: object) -> SandboxProcess:
    """A sandbox that lives in the present, as services do: no unit tells them another time."""
    return SandboxProcess(**{**SMALL, **FREE, "start_at": 0, **options})


def make_home(path: Path, sandbox: SandboxProcess | None) -> Path:
    """A home with settings and a key; without a sandbox a key that nobody asks for."""
    path.mkdir(parents=True)
    values = {"ETSY_API_KEY": "key", "ETSY_SHARED_SECRET": "secret"}
    if sandbox is not None:
        values = sandbox.env
    (path / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    (path / ".env").chmod(0o600)
    (path / "furnisync.toml").write_text(
        "[images]\nmin_free_mb = 0\n[quota]\nslow_per_second = 20\n"
    )
    return path


def furnisync(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "furnisync", *arguments]


def states(answer: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return {row["job"]: row for row in json.loads(answer.stdout)}
