"""A small file system that is really there, so that it can really be full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs in a mount namespace of its own; it vanishes with the process that holds it."""

    def __init__(self, at: Path, size_mb: int) -> None:
        if missing := [name for name in ("unshare", "nsenter") if shutil.which(name) is None]:
            pytest.skip(f"no small disk can be mounted here: no {', '.join(missing)}")
        at.mkdir()
        self.at = at
        mapped = [] if os.getuid() == 0 else ["-U", "-r"]
        script = f'mount -t tmpfs -o size={size_mb}m,mode=700 tmpfs "$0" && echo ready && exec cat'
        self._holder = subprocess.Popen(
            ["unshare", "-m", *mapped, "--propagation", "private", "sh", "-c", script, str(at)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        told = self._holder.stdout.readline() if self._holder.stdout else ""
        if told != "ready\n":
            self.close()
            pytest.skip(f"no small disk can be mounted here: {told}")
        joined = ["-U", "--preserve-credentials"] if mapped else []
        self._enter = ["nsenter", "-t", str(self._holder.pid), "-m", *joined, "--"]
        self.seen = Path(f"/proc/{self._holder.pid}/root{at}")
        """The same folder as it is seen from outside; not for SQLite, which resolves paths."""

    def inside(self, command: list[str], folder: Path) -> list[str]:
        """What runs `command` on this disk in a folder; each step replaces the one before."""
        return [*self._enter, "sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]

    def fill(self) -> None:
        """Take the last byte; what is freed meanwhile too."""
        with (self.seen / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        (self.seen / "ballast").unlink()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
