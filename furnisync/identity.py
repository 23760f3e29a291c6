"""Which home is this, and are these its images? Small files distinguish "away" from "empty".

| file                | is in             | contains                                          |
| ------------------- | ----------------- | ------------------------------------------------- |
| `.furnisync-home`   | the home          | the home's id                                     |
| `.furnisync-images` | each image folder | the id of its home, and the folder's name in it   |

The mount point of a missing disk has neither. Each is written once, durably, and never
changed afterwards. The catalog's copy: `catalog/image_folder.py`.
"""

import uuid
from pathlib import Path

import msgspec

from furnisync import durable
from furnisync.errors import ConfigError, NoRoom, NotHere, is_disk_full

__all__ = [
    "HOME_MARK",
    "IMAGES_MARK",
    "Mark",
    "check_new_home",
    "ensure_home_id",
    "home_is_here",
    "read_mark",
    "write_mark",
]

HOME_MARK = ".furnisync-home"
IMAGES_MARK = ".furnisync-images"
_OURS = ("catalog.db", "etsy_data.db", "catalog_test.db", "etsy_data_test.db")
"""Files of a home of an older version, which has no mark yet. Only syncs create these. Any command
writes settings, also into an empty mount point."""


class Mark(msgspec.Struct, frozen=True):
    """The content of such a file; `folder` is empty in the home's own."""

    home: str
    folder: str = ""


_mark = msgspec.json.Decoder(Mark)


def read_mark(path: Path) -> Mark | None:
    """The mark in a file; None if there is none or the file has other content.

    Raises:
        OSError: the file or its folder cannot be read.
    """
    try:
        return _mark.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def write_mark(path: Path, mark: Mark) -> None:
    """Write a mark durably.

    Raises:
        OSError: the folder cannot be written.
    """
    durable.write(path, msgspec.json.encode(mark) + b"\n")


def ensure_home_id(home: Path, known: str | None = None) -> str:
    """The home's id. A home without a mark gets one, with `known` as its id if given.

    Raises:
        NoRoom: the home's disk is full.
        ConfigError: the home cannot be written.
    """
    path = home / HOME_MARK
    try:
        mark = read_mark(path)
        if mark is None:
            mark = Mark(known or str(uuid.uuid4()))
            write_mark(path, mark)
    except OSError as error:
        raise (NoRoom if is_disk_full(error) else ConfigError)(
            f"{path} cannot be written ({error.strerror}): repair the folder's permissions or free"
            " some disk."
        ) from error
    return mark.home


def home_is_here(home: Path) -> bool:
    """Whether a folder is a home that was used or installed before, and not an empty mount point.

    A folder that cannot be read counts as away, like a disk that was removed.
    """
    try:
        return any((home / name).exists() for name in (HOME_MARK, *_OURS))
    except OSError:
        return False


def check_new_home(home: Path) -> None:
    """Refuse to create a home where a missing disk is more likely.

    A missing folder is created only if its parent exists and is not empty: an empty parent is
    probably a mount point, and a missing one a disk that is not mounted.

    Raises:
        NotHere: names the command that creates the home anyway.
    """
    above = home.parent
    try:
        if home.exists() or (above.exists() and (not above.is_dir() or any(above.iterdir()))):
            return
    except OSError:
        return  # making it will meet the same and say why
    why = f"{above} is {'empty' if above.exists() else 'not there'}"
    raise NotHere(
        f"FURNISYNC_HOME is {home}, and {why}: mount its disk, or make a new home with"
        f" `mkdir -p {home}`."
    )
