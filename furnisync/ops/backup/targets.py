"""Where backups are kept: a folder, or a url that fsspec knows (s3://, sftp://, memory://, ...).

A folder takes a backup by one rename. A url takes it file by file, `backup.json` last, so that an
incomplete upload has none and is no backup.
"""

import contextlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from furnisync.durable import scratch_folder, sync_folder
from furnisync.errors import ConfigError
from furnisync.extras import require_extra
from furnisync.lockfile import single_instance
from furnisync.ops.backup.archive import (
    COPIES,
    MANIFEST,
    BackupFailed,
    Manifest,
    named_at,
    read_manifest,
)

_PART: Final = ".part"


class Target(ABC):
    """A place for backups."""

    @abstractmethod
    def staging(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A folder of this machine to make a backup in, removed at the end."""

    @abstractmethod
    def publish(self, folder: Path, name: str) -> None:
        """Give a complete backup its name."""

    @abstractmethod
    def names(self) -> list[str]:
        """All names in it, backups or not."""

    @abstractmethod
    def note(self, name: str) -> bytes | None:
        """The content of a backup's `backup.json`; None if there is none."""

    @abstractmethod
    def fetch(self, name: str, file: str, to: Path) -> Path:
        """A file of a backup on this machine: `to`, or its place in the backup."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove our files of a backup, complete or not, and its folder if it is then empty."""

    @abstractmethod
    def shown(self, name: str) -> str:
        """The address of a backup, for people."""

    def manifest(self, name: str) -> Manifest | None:
        """The description of a backup; None if it is none, or of a newer program."""
        content = self.note(name)
        return None if content is None else read_manifest(content)

    def whole_backups(self, *, test: bool, home: str | None) -> dict[str, Manifest]:
        """The backups of a home (None: of any home), oldest first."""
        named = (name for name in self.names() if named_at(name, test=test) is not None)
        found = ((name, self.manifest(name)) for name in named)
        return {
            name: manifest
            for name, manifest in found
            if manifest is not None and home in (None, manifest.home)
        }


def open_target(address: str, home: Path) -> Target:
    """The place of an address; a folder is created if only it is missing, and not its parents.

    They may be a disk that is not mounted: a backup would then land on the system's disk.

    Raises:
        ConfigError: it cannot be written, or its parent is missing.
        MissingExtra: it is a url, and fsspec is not installed.
    """
    if "://" in address:
        return UrlTarget(address, home / ".backup")
    folder = Path(address).expanduser()
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
    except FileNotFoundError as error:
        raise ConfigError(
            f"Backups cannot be kept in {folder}, as {folder.parent} does not exist: connect its"
            " disk, or create that folder."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"Backups cannot be kept in {folder} ({error.strerror}): name another folder."
        ) from error
    return FolderTarget(folder.resolve())


class FolderTarget(Target):
    """Backups as folders in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A folder beside the backups, so that one rename publishes it; under a lock."""
        with single_instance(self._folder / ".furnisync-backup.lock", "a backup"):
            for leftover in self._folder.glob(f".furnisync-*{_PART}"):
                _empty(leftover)  # of a run that was killed: we hold the lock
            staged = self._folder / f".{name}{_PART}"
            staged.mkdir(mode=0o700)
            try:
                yield staged
            finally:
                _empty(staged)

    def publish(self, folder: Path, name: str) -> None:
        """Rename it; its files are on the disk already."""
        sync_folder(folder)
        folder.rename(self._folder / name)
        sync_folder(self._folder)

    def names(self) -> list[str]:
        """The names of the folders."""
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir())

    def note(self, name: str) -> bytes | None:
        """Read `backup.json`."""
        try:
            return (self._folder / name / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fetch(self, name: str, file: str, to: Path) -> Path:  # noqa: ARG002 -- it is on this machine
        """Its path in the backup."""
        return self._folder / name / file

    def remove(self, name: str) -> None:
        """Rename it first, so that an incomplete backup never has a backup's name."""
        doomed = self._folder / f".{name}{_PART}"
        (self._folder / name).rename(doomed)
        if not _empty(doomed):  # it holds somebody else's file
            doomed.rename(self._folder / name)

    def shown(self, name: str) -> str:
        """The path."""
        return str(self._folder / name)


_OURS: Final = (
    *(MANIFEST, *COPIES.values()),
    *(f".{name}{_PART}" for name in (MANIFEST, *COPIES.values())),
    *(f"{role}.db{ending}" for role in COPIES for ending in ("", "-journal", "-wal", "-shm")),
)
"""All files that we ever put into a backup's folder or a staging folder."""


def _empty(folder: Path) -> bool:
    """Remove our files from a folder, then the folder; False if something else is in it."""
    for name in _OURS:
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


class UrlTarget(Target):
    """Backups at a url, through fsspec. Every protocol has its own errors."""

    def __init__(self, url: str, staging: Path) -> None:
        require_extra("urls")
        fsspec = importlib.import_module("fsspec")
        self._url = url.rstrip("/")
        self._staging = staging
        with self._translated("opened"):
            found = fsspec.core.url_to_fs(self._url)
        self._files: Any = found[0]
        self._root = str(found[1]).rstrip("/")

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """A folder in the home; the caller holds the home's lock."""
        with scratch_folder(self._staging) as folder:
            staged = folder / name
            staged.mkdir(mode=0o700)
            yield staged

    def publish(self, folder: Path, name: str) -> None:
        """Upload the files and check their sizes; `backup.json`, which makes it a backup, last."""
        if name in self.names():
            raise BackupFailed(f"{self.shown(name)} is there already: run the backup again.")
        with self._translated("written"):
            self._files.makedirs(f"{self._root}/{name}", exist_ok=True)
            files = sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST)
            for path in files:
                self._files.put_file(str(path), f"{self._root}/{name}/{path.name}")
                there = self._files.info(f"{self._root}/{name}/{path.name}")["size"]
                if there != path.stat().st_size:
                    raise BackupFailed(f"{self._url} holds {there} bytes of {path.name} only.")

    def names(self) -> list[str]:
        """The names directly below the url."""
        with self._translated("listed"):
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return []
            found = self._files.ls(self._root, detail=False)
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def note(self, name: str) -> bytes | None:
        """Download `backup.json`."""
        with self._translated("read"):
            path = f"{self._root}/{name}/{MANIFEST}"
            return bytes(self._files.cat_file(path)) if self._files.exists(path) else None

    def fetch(self, name: str, file: str, to: Path) -> Path:
        """Download."""
        with self._translated("read"):
            self._files.get_file(f"{self._root}/{name}/{file}", str(to))
        return to

    def remove(self, name: str) -> None:
        """Remove `backup.json` first, so that it is no backup any more."""
        with self._translated("cleared"):
            for file in (MANIFEST, *COPIES.values()):
                path = f"{self._root}/{name}/{file}"
                if self._files.exists(path):
                    self._files.rm_file(path)
            # Object stores have no folders; one with somebody else's file in it stays.
            with contextlib.suppress(OSError, NotImplementedError):
                self._files.rmdir(f"{self._root}/{name}")

    def shown(self, name: str) -> str:
        """The url."""
        return f"{self._url}/{name}"

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except BackupFailed:
            raise
        except Exception as error:  # each protocol brings a library with its own errors
            raise BackupFailed(
                f"{self._url} could not be {what} ({type(error).__name__}: {error}): check the"
                " address, the network and the credentials."
            ) from error
