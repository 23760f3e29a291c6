"""A disk that can be unmounted from a folder, also under a running program, and mounted again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.processes import ROOT


class MountedDisk:
    """A tmpfs bound to a folder in a mount namespace of its own.

    From outside the folder is the mount point: what is written there while the disk is away can
    be seen. It all vanishes with the process that holds the namespace.
    """

    def __init__(self, at: Path, store: Path) -> None:
        if missing := [name for name in ("unshare", "nsenter") if shutil.which(name) is None]:
            pytest.skip(f"no disk can be mounted here: no {', '.join(missing)}")
        at.mkdir(parents=True, exist_ok=True)
        store.mkdir()
        self._at, self._store = str(at), str(store)
        mapped = [] if os.getuid() == 0 else ["-U", "-r"]
        script = 'mount -t tmpfs tmpfs "$1" && mount --bind "$1" "$0" && echo ready && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "-m", *mapped, "--propagation", "private", "sh", "-c", script,
             self._at, self._store],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        told = self._holder.stdout.readline() if self._holder.stdout else ""
        if told != "ready\n":
            self.close()
            pytest.skip(f"no disk can be mounted here: {told}")
        joined = ["-U", "--preserve-credentials"] if mapped else []
        self._enter = ["nsenter", "-t", str(self._holder.pid), "-m", *joined, "--"]
        self.content = Path(f"/proc/{self._holder.pid}/root{store}")
        """What lies on the disk, mounted or not."""

    def inside(self, command: list[str]) -> list[str]:
        """What runs `command` where the disk is; each step replaces the one before."""
        return [*self._enter, "sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *command]

    def _run(self, *command: str) -> None:
        subprocess.run([*self._enter, *command], check=True)

    def unmount(self) -> None:
        """Take it away under whoever uses it."""
        self._run("umount", "-l", self._at)

    def mount(self) -> None:
        self._run("mount", "--bind", self._store, self._at)

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        self._run("mount", "-o", f"remount,bind,{how}", self._at)

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
