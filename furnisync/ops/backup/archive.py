"""One backup: a folder with copies of the databases and `backup.json`, which describes them.

`backup.json` is written last, and the folder gets its name once all of it is on the disk: a folder
with a backup's name and without a valid `backup.json` is no backup.
"""

import gzip
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from furnisync import durable, owned
from furnisync.catalog import schema as catalog_schema
from furnisync.config import HomeFiles
from furnisync.errors import DatabaseUnusable, UserError
from furnisync.history import schema as history_schema
from furnisync.sqlite.database import open_reader

MANIFEST: Final = "backup.json"
FORM: Final = 1
Role = Literal["catalog", "history", "buyer_key"]
COPIES: Final[dict[Role, str]] = {
    "catalog": "catalog.db.gz",
    "history": "etsy_data.db.gz",
    "buyer_key": "buyer_key.gz",
}
"""The files of a backup. The lowest compression level reduces them to a quarter."""
APPLICATIONS: Final[dict[Role, tuple[int, int]]] = {
    "catalog": (catalog_schema.APPLICATION_ID, len(catalog_schema.MIGRATIONS)),
    "history": (history_schema.APPLICATION_ID, len(history_schema.MIGRATIONS)),
}
_PAGES: Final = 2000
_BLOCK: Final = 1 << 20
_NAME: Final = re.compile(r"furnisync(?P<test>-test)?-(?P<at>\d{8}T\d{6}Z)")

Tell = Callable[[str, int, int], None]
"""Takes a step's title, and how much of it is done of how much."""


class BackupFailed(UserError):
    """A backup could not be made or used; the message says why."""


class Copied(msgspec.Struct, frozen=True):
    """A file of a backup.

    Attributes:
        bytes_packed: size of the compressed file, whose digest is `sha256`.
        bytes_whole: size of its content.
        rows: by table; empty where it is no database.
    """

    role: Role
    bytes_packed: int
    bytes_whole: int
    sha256: str
    rows: dict[str, int] = {}


class Manifest(msgspec.Struct, frozen=True):
    """`backup.json`; `home` distinguishes the backups of several homes."""

    made_at: int
    home: str
    test: bool
    copies: tuple[Copied, ...]
    form: int = FORM


_manifest = msgspec.json.Decoder(Manifest)


def backup_name(at: int, *, test: bool) -> str:
    """The folder's name, by UTC time, so that names sort by age."""
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"furnisync{'-test' if test else ''}-{stamp}"


def named_at(name: str, *, test: bool) -> int | None:
    """When the backup of this name was made (unix seconds); None if it is no backup's name."""
    match = _NAME.fullmatch(name)
    if match is None or bool(match["test"]) != test:
        return None
    try:
        return int(datetime.strptime(match["at"], "%Y%m%dT%H%M%S%z").timestamp())
    except ValueError:
        return None


def places_of(files: HomeFiles) -> dict[Role, Path]:
    """The files of a home that are backed up, whether they exist or not."""
    return {"catalog": files.catalog, "history": files.history, "buyer_key": files.buyer_key}


def sources_of(files: HomeFiles) -> dict[Role, Path]:
    """The files of a home that are backed up: those that exist and are not just being made."""
    return {
        role: path
        for role, path in places_of(files).items()
        if path.exists() and not (role in APPLICATIONS and _is_being_made(role, path))
    }


def _is_being_made(role: Role, path: Path) -> bool:
    """Whether a database has no table yet: the sync that makes it commits all of them at once."""
    try:
        with closing(open_reader(path, *APPLICATIONS[role])) as reader:
            return not reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    except (DatabaseUnusable, sqlite3.DatabaseError):
        return False  # whoever copies it says what is wrong


def make_copies(sources: dict[Role, Path], folder: Path, tell: Tell) -> tuple[Copied, ...]:
    """Copy, verify and pack everything into a folder, all as of one moment.

    Raises:
        BackupFailed: a copy is not equal to its database.
        sqlite3.DatabaseError, OSError: it could not be read or written.
    """
    copies = []
    for role, path, rows in copy_databases(sources, folder, tell):
        copied = pack(role, path, folder / COPIES[role], tell)
        path.unlink()
        copies.append(msgspec.structs.replace(copied, rows=rows))
    if "buyer_key" in sources:
        copies.append(pack("buyer_key", sources["buyer_key"], folder / COPIES["buyer_key"]))
    return tuple(copies)


def copy_databases(
    sources: dict[Role, Path], folder: Path, tell: Tell = lambda *_: None
) -> Iterator[tuple[Role, Path, dict[str, int]]]:
    """Copy databases and check the copies, all as of one moment, while syncs write to them.

    Each database is read in one transaction, and all of these begin before the first is copied. In
    WAL mode they delay no writer, and no write makes a copy start again.

    Yields:
        each checked copy, `ROLE.db` in the folder, with its rows by table.

    Raises:
        BackupFailed: a copy is not equal to its database.
        sqlite3.DatabaseError, OSError: it could not be read or written.
    """
    with ExitStack() as stack:
        readers: dict[Role, sqlite3.Connection] = {}
        for role in APPLICATIONS.keys() & sources.keys():
            reader = stack.enter_context(closing(open_reader(sources[role], *APPLICATIONS[role])))
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            readers[role] = reader
        for role in sorted(readers):
            copy = folder / f"{role}.db"
            yield role, copy, _copy_database(role, readers[role], copy, tell)


def _copy_database(
    role: Role, reader: sqlite3.Connection, path: Path, tell: Tell
) -> dict[str, int]:
    def progress(_status: int, remaining: int, total: int) -> None:
        tell(f"copying {role}", total - remaining, total)

    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        reader.backup(copy, pages=_PAGES, progress=progress, sleep=0.0)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
    rows = count_rows(reader)
    reader.execute("ROLLBACK")
    tell(f"checking {role}", 0, 1)
    check_database(role, path, rows)
    return rows


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Rows of every table."""
    tables = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {
        name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])
        for (name,) in tables
    }


def check_database(role: Role, path: Path, rows: dict[str, int]) -> None:
    """Check a copy: its integrity, its owner, its version, its rows.

    Raises:
        BackupFailed: it is damaged, another database, of a newer version, or lacks rows.
    """
    application_id, known = APPLICATIONS[role]
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
            owner = copy.execute("PRAGMA application_id").fetchone()[0]
            version = copy.execute("PRAGMA user_version").fetchone()[0]
            found = copy.execute("PRAGMA quick_check").fetchone()[0]
            counted = count_rows(copy)
    except sqlite3.DatabaseError as error:
        raise BackupFailed(f"The copy of the {role} cannot be read ({error}).") from error
    if owner != application_id:
        raise BackupFailed(f"The copy of the {role} is another program's database.")
    if version > known:
        raise BackupFailed(
            f"The copy of the {role} is of version {version}, this program knows {known}:"
            " update furnisync."
        )
    if found != "ok":
        raise BackupFailed(f"The copy of the {role} is damaged: {found}.")
    if counted != rows:
        wrong = [name for name in rows if counted.get(name) != rows[name]]
        raise BackupFailed(f"The copy of the {role} lacks rows, in {', '.join(wrong)}.")


def pack(role: Role, source: Path, packed: Path, tell: Tell = lambda *_: None) -> Copied:
    """Compress a file onto the disk.

    Raises:
        OSError: it could not be read or written.
    """
    total, done = source.stat().st_size, 0
    with (
        source.open("rb") as plain,
        durable.replacing(packed, durable.PRIVATE) as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as zipped,
    ):
        while block := plain.read(_BLOCK):
            zipped.write(block)
            done += len(block)
            tell(f"packing {role}", done, total)
    return Copied(role, packed.stat().st_size, done, owned.digest(packed))


def unpack(copied: Copied, packed: Path, target: Path) -> None:
    """Check a file of a backup and unpack it onto the disk.

    Raises:
        BackupFailed: it differs from what the backup says.
        OSError: it could not be read or written.
    """
    if owned.digest(packed) != copied.sha256:
        raise BackupFailed(f"{packed.name} of the backup was changed or is damaged.")
    try:
        with (
            gzip.open(packed, "rb") as zipped,
            durable.replacing(target, durable.PRIVATE) as plain,
        ):
            shutil.copyfileobj(zipped, plain, _BLOCK)
    except (EOFError, gzip.BadGzipFile) as error:
        raise BackupFailed(f"{packed.name} of the backup is damaged ({error}).") from error


def read_manifest(content: bytes) -> Manifest | None:
    """Decode `backup.json`; None if it is none, or of a newer program."""
    try:
        found = _manifest.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if found.form == FORM and found.copies else None
