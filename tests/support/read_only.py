"""A folder that is really read-only, for root too: mounted so in a namespace of the command."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_MOUNT = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd / && exec "$@"'


def read_only(folder: Path, command: list[str]) -> list[str]:
    """What runs `command` where `folder` cannot be written; others write it as before."""
    mapped = [] if os.getuid() == 0 else ["-U", "-r"]
    return [
        "unshare", "-m", *mapped, "--propagation", "private", "sh", "-c", _MOUNT, str(folder),
        *command,
    ]  # fmt: skip


def need_read_only(folder: Path) -> None:
    """Skip where no folder can be mounted read-only."""
    if shutil.which("unshare") is None:
        pytest.skip("nothing can be mounted read-only here: no unshare")
    tried = subprocess.run(
        read_only(folder, ["touch", str(folder / "probe")]),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Read-only file system" not in tried.stderr:
        pytest.skip(f"nothing can be mounted read-only here: {tried.stderr or 'it was written'}")
