"""The doctor's checks of the home's disk: is it mounted, can it be written, can it be locked?

They create nothing: what cannot be seen that way, the first sync shows.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

from furnisync.config import HomeFiles
from furnisync.errors import ConfigError, LocksUnsupported, UserError
from furnisync.home import require_home
from furnisync.lockfile import kind_of_locks
from furnisync.ops.checks.doctor import Check
from furnisync.ops.service.service import ask_system

Ask = Callable[..., CompletedProcess[str]]

NETWORK: Final = frozenset(
    {
        "9p", "afpfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre",
        "nfs", "nfs4", "smb3", "smbfs", "webdav",
    }
)  # fmt: skip
"""File systems that several computers can have mounted, as `mount` names them."""
_MOUNTS: Final = (
    re.compile(r".+? on (/.*) type (\S+) \(.*\)"),  # Linux
    re.compile(r".+? on (/.*) \(([^,()]+).*\)"),  # macOS
)
_MOVE: Final = "Move the home to a local disk and set FURNISYNC_HOME to it."


def check_home(files: HomeFiles) -> Check:
    """Whether the home exists and can be written."""
    home = files.home
    if not home.is_dir():
        remedy = "Mount its disk, or set FURNISYNC_HOME to the folder that holds your data."
        return Check("home", "fail", f"{home} does not exist", remedy)
    if not os.access(home, os.W_OK):
        remedy = (
            "It can be read, but no sync can run: mount its disk for writing, or correct the"
            " permissions."
        )
        return Check("home", "fail", f"{home} cannot be written", remedy)
    try:
        require_home(files)
    except ConfigError:
        remedy = "The first sync creates it; if your data is elsewhere, set FURNISYNC_HOME."
        return Check("home", "warn", f"{home} holds no data of furnisync", remedy)
    return Check("home", "ok", f"{home} can be written")


def check_file_system(files: HomeFiles, ask: Ask = ask_system) -> Iterator[Check]:
    """Which locks the home's file system has, and whether other computers can write to it."""
    yield _check_locking(files)
    name = file_system_of(files.home, ask)
    if name in NETWORK:
        yield Check(
            "file system",
            "warn",
            f"{files.home} is on a network share ({name})",
            "Run furnisync on one computer only there: SQLite's log cannot be shared between"
            f" computers. {_MOVE}",
        )
    else:
        yield Check("file system", "ok", name or "the system does not name it")


def _check_locking(files: HomeFiles) -> Check:
    """Try the locks on a file that exists."""
    tried = (files.lock("images"), files.lock("data"), files.settings, files.metadata)
    for path in tried:
        if not path.is_file():
            continue
        try:
            kind = kind_of_locks(path)
        except LocksUnsupported as error:
            return Check("file locks", "fail", "do not work here", str(error))
        except OSError as error:
            return Check("file locks", "fail", f"{path} cannot be locked ({error})", _MOVE)
        return Check("file locks", "ok", "work" if kind is None else f"work ({kind})")
    return Check("file locks", "ok", "not tried yet: no file to lock exists")


def file_system_of(path: Path, ask: Ask = ask_system) -> str | None:
    """The name of a path's file system, such as ext4 or smbfs; None if the system does not know."""
    try:
        mounts = ask("mount").stdout
    except UserError:
        return None
    found: dict[Path, str] = {}
    for line in mounts.splitlines():
        match = next((one for how in _MOUNTS if (one := how.fullmatch(line))), None)
        if match is not None and path.resolve().is_relative_to(match[1]):
            found[Path(match[1])] = match[2]
    return found[max(found, key=lambda at: len(at.parts))] if found else None
