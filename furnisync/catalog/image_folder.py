"""Is the image folder here? The catalog decides, as a missing disk looks like an empty folder.

| the folder                                    | it is                                          |
| --------------------------------------------- | ---------------------------------------------- |
| has the mark of this home                     | here                                           |
| has another home's mark                       | away: another disk                             |
| has no mark, and half of a sample of the      | here; it gets the mark (an older version, or a |
| images that are done are in it                | copy without hidden files)                     |
| has no mark, but had one or should have       | away: most likely an empty mount point         |
| images                                        |                                                |
| does not exist, but did or should             | away                                           |
| otherwise                                     | new: it is made and gets the mark              |

Code that takes a missing file for a lost one calls `why_away` first, and again before it acts.
"""

import sqlite3

from furnisync.catalog.schema import get_meta, set_meta
from furnisync.config import HomeFiles
from furnisync.errors import NotHere
from furnisync.identity import HOME_MARK, IMAGES_MARK, Mark, ensure_home_id, read_mark, write_mark

__all__ = ["accept_folder", "check_folder", "expected_mark", "identify", "settle", "why_away"]

HOME_ID = "home_id"
MARKED = "image_folder_marked"
"""Key of `meta`: the image folder was given its mark once."""
SAMPLE_TIMES = 8
SAMPLE_OF_EACH = 8

AWAY = "the image folder of this home is not here: mount its disk"
LOST = "if the folder is lost for good, run `furnisync verify --repair --accept-folder`"


def identify(connection: sqlite3.Connection, files: HomeFiles) -> Mark:
    """Give catalog and home their id where they have none; inside a transaction.

    Returns:
        the mark that the image folder should have.

    Raises:
        UserError: the home cannot be written.
    """
    known = get_meta(connection, HOME_ID)
    if known is None:
        # A new catalog takes the id of the home, or else of the image folder.
        mark = _read_quietly(files)
        ours = mark is not None and mark.folder == files.images.name
        known = ensure_home_id(files.home, mark.home if mark and ours else None)
        set_meta(connection, HOME_ID, known)
    else:
        ensure_home_id(files.home, known)
    return Mark(known, files.images.name)


def expected_mark(connection: sqlite3.Connection, files: HomeFiles) -> Mark | None:
    """The mark that the image folder should have; None where there is no id yet.

    Raises:
        OSError: the home cannot be read.
    """
    known = get_meta(connection, HOME_ID)
    if known is None:
        home = read_mark(files.home / HOME_MARK)
        known = None if home is None else home.home
    return None if known is None else Mark(known, files.images.name)


def why_away(connection: sqlite3.Connection, files: HomeFiles) -> str | None:
    """Why the image folder counts as away, with the remedy; None where it is here.

    Nothing is written, and the cost is the same at any size: it checks some dozens of files.
    """
    try:
        why = _what_is_wrong(connection, files)
    except OSError as error:
        why = f"{files.images} cannot be read: {error.strerror}"
    return None if why is None else f"{AWAY} ({why}); {LOST}"


def _what_is_wrong(connection: sqlite3.Connection, files: HomeFiles) -> str | None:
    folder = files.images
    exists = folder.is_dir()
    mark = read_mark(folder / IMAGES_MARK) if exists else None
    if mark is not None:
        expected = expected_mark(connection, files)
        ours = expected is None or mark == expected
        return None if ours else f"{folder} has the mark of another home"
    stored = _count_stored(connection)
    if not stored and get_meta(connection, MARKED) is None:
        return None  # a new one
    if not exists:
        return f"{folder} does not exist"
    if stored and _sample_agrees(connection, files):
        return None
    return f"{folder} lacks its mark and the images that should be there"


def check_folder(connection: sqlite3.Connection, files: HomeFiles) -> None:
    """Stop where the image folder is away.

    Raises:
        NotHere: with the remedy.
    """
    if (why := why_away(connection, files)) is not None:
        raise NotHere(f"{why[0].upper()}{why[1:]}.")


def settle(connection: sqlite3.Connection, files: HomeFiles, mark: Mark) -> str | None:
    """Make a new image folder, or mark one without a mark; do not touch one that is away.

    Args:
        connection: inside a transaction.
        files: of the home.
        mark: from `identify`.

    Returns:
        why it is away; None where it is here and has the mark.

    Raises:
        OSError: it cannot be made or written.
    """
    why = why_away(connection, files)
    if why is None:
        _mark(connection, files, mark)
    return why


def accept_folder(connection: sqlite3.Connection, files: HomeFiles) -> None:
    """Accept the image folder as it is, or make a new one where it is missing; in a transaction.

    Raises:
        OSError: it cannot be made or written.
        UserError: the home cannot be written.
    """
    _mark(connection, files, identify(connection, files))


def _mark(connection: sqlite3.Connection, files: HomeFiles, mark: Mark) -> None:
    files.images.mkdir(exist_ok=True)
    path = files.images / IMAGES_MARK
    if read_mark(path) != mark:
        write_mark(path, mark)
    set_meta(connection, MARKED, "1")


def _read_quietly(files: HomeFiles) -> Mark | None:
    """The image folder's mark; None where it cannot be read, and `why_away` says why."""
    try:
        return read_mark(files.images / IMAGES_MARK)
    except OSError:
        return None


def _count_stored(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM counters WHERE name = 'images.done'").fetchone()
    return 0 if row is None else int(row[0])


def _sample_agrees(connection: sqlite3.Connection, files: HomeFiles) -> bool:
    """Whether the folder has at least half of a sample of the stored images.

    Some files of each of several times, by the index of `done_at`.
    """
    # Each alone is one look into the index; both in one SELECT would read all of it.
    first, last = connection.execute(
        "SELECT (SELECT min(done_at) FROM images), (SELECT max(done_at) FROM images)"
    ).fetchone()
    if first is None:
        return False
    found: set[str] = set()
    for number in range(SAMPLE_TIMES):
        rows = connection.execute(
            "SELECT file FROM images WHERE done_at >= ? AND file IS NOT NULL"
            " ORDER BY done_at LIMIT ?",
            (first + (last - first) * number // SAMPLE_TIMES, SAMPLE_OF_EACH),
        )
        found.update(file for (file,) in rows)
    here = sum((files.images / file).exists() for file in found)
    return 2 * here >= len(found) > 0
