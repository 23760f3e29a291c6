"""Checks of a home before a command: writing commands prepare it, the others only require it."""

import os
from importlib.resources import files as resources

from furnisync import durable
from furnisync.config import HomeFiles
from furnisync.errors import ConfigError, NoRoom, is_disk_full
from furnisync.identity import check_new_home


def prepare_home(files: HomeFiles) -> None:
    """Prepare a home for a command that writes: its folder and a commented `furnisync.toml`.

    Raises:
        ConfigError: nothing can be written there.
        NoRoom: its disk is full.
        NotHere: the home is missing, and so probably is its disk.
    """
    home = files.home
    check_new_home(home)
    try:
        home.mkdir(exist_ok=True)
        probe = home / f".furnisync-write-{os.getpid()}"
        probe.touch()
        probe.unlink()
        if not files.settings.exists():
            template = resources("furnisync").joinpath("furnisync.toml").read_bytes()
            # `urls` of [notices] may hold passwords.
            durable.create(files.settings, template, durable.PRIVATE)
    except OSError as error:
        raise (NoRoom if is_disk_full(error) else ConfigError)(
            f"FURNISYNC_HOME is {home}, where nothing can be written ({error.strerror}):"
            " correct its permissions, free some disk, or name another folder."
        ) from error


def require_home(files: HomeFiles) -> None:
    """Check that a home exists, for commands that only read and create none.

    Raises:
        ConfigError: the folder does not exist, or has no data of furnisync.
    """
    if not files.home.is_dir():
        raise ConfigError(
            f"FURNISYNC_HOME is {files.home}, which is not there: mount its disk, or name the"
            " folder that holds your data."
        )
    ours = (
        files.catalog, files.history, files.quota, files.settings, files.plan, files.metadata,
        files.home / ".env",
    )  # fmt: skip
    if not any(path.exists() for path in ours):
        raise ConfigError(
            f"{files.home} holds no data of furnisync: run sync_images.py there first, or set"
            " FURNISYNC_HOME to the folder that holds your data."
        )
