"""A home, its image sync as real processes, and the sandbox's truth to hold it against."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from furnisync.sandbox.process import SandboxProcess

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"shops": 20, "listings": 300, "images_mean": 2, "image_bytes": 3000, "pictures": 4}
FREE = {"qps": 10**6, "qpd": 10**9}
"""Limits that no test meets."""
WHOLE_KINDS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif"}
DEADLINE_S = 120.0


def small_sandbox(**options: object) -> SandboxProcess:
    return SandboxProcess(**{**SMALL, **FREE, **options})


@dataclass
class Ended:
    status: int
    out: str


class Run:
    """A running image sync; its words go into a file, as with nohup."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.log = log

    @property
    def words(self) -> str:
        return self.log.read_text("utf-8")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = DEADLINE_S) -> Ended:
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {timeout_s} s:\n{self.words}") from None
        return Ended(status, self.words)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Wait for a condition while the process runs; returns what it said."""

        def holds() -> Any:
            found = condition()
            assert found or self.process.poll() is None, f"ended too early:\n{self.words}"
            return found

        return until(holds, timeout_s)


def until(condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not so within {timeout_s} s"
        time.sleep(0.02)
    return found


class Home:
    """A folder with settings; `sections` are those of furnisync.toml."""

    def __init__(self, path: Path, sandbox: SandboxProcess | None, **sections: Any) -> None:
        self.path = path
        self.sandbox = sandbox
        self.env: dict[str, str] = {}
        path.mkdir(exist_ok=True)
        self.configure(**sections)
        self._runs = 0

    def configure(self, **sections: dict[str, Any]) -> None:
        sections = {**sections, "images": {"min_free_mb": 0, **sections.get("images", {})}}
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        (self.path / "furnisync.toml").write_text("\n".join(lines) + "\n")

    def environment(self) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ETSY_", "FURNISYNC_")) and name != "FORCE_COLOR"
        }
        told = {} if self.sandbox is None else self.sandbox.env
        return {**clean, **told, "FURNISYNC_HOME": str(self.path), **self.env}

    # -- processes -----------------------------------------------------------------------------

    def start(
        self,
        *arguments: str,
        command: Iterable[str] = ("-m", "furnisync", "images"),
        limits: dict[int, int] | None = None,
    ) -> Run:
        self._runs += 1
        log = self.path.parent / f"{self.path.name}.{self._runs}.log"

        def limit() -> None:
            for what, most in (limits or {}).items():
                resource.setrlimit(what, (most, resource.getrlimit(what)[1]))

        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-u", *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment(),
                preexec_fn=limit if limits else None,  # noqa: PLW1509
            )
        return Run(process, log)

    def sync(self, *arguments: str, timeout_s: float = DEADLINE_S) -> Ended:
        return self.start(*arguments).wait(timeout_s)

    def script(self, *arguments: str) -> Run:
        """`sync_images.py`, as the user calls it."""
        return self.start(*arguments, command=("sync_images.py",))

    def run(self, *arguments: str) -> Ended:
        """Any other command of `furnisync`."""
        return self.start(*arguments, command=("-m", "furnisync")).wait(60)

    def status(self, *flags: str) -> dict[str, Any]:
        ended = self.run("status", "--json", *flags)
        assert ended.status == 0, ended.out
        found: dict[str, Any] = json.loads(ended.out)
        return found

    # -- what lies there -----------------------------------------------------------------------

    def rows(self, sql: str, *values: object, name: str = "catalog.db") -> list[tuple[Any, ...]]:
        """Rows of a database, none where it or its tables are not there yet."""
        if not (self.path / name).exists():
            return []
        with closing(sqlite3.connect(f"file:{self.path / name}?mode=ro", uri=True)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def number(self, sql: str, *values: object) -> int:
        rows = self.rows(sql, *values)
        return int(rows[0][0]) if rows and rows[0][0] is not None else 0

    def files(self, folder: str = "images") -> dict[str, Path]:
        """Files under their final names, by path relative to the home."""
        found = (self.path / folder).glob("[0-9]*/*")
        return {str(path.relative_to(self.path)): path for path in found}

    def metadata(self, name: str = "image_metadata.json") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / name).read_bytes())
        return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def findable(sandbox: SandboxProcess) -> set[int]:
    """Active furniture listings that the search shows."""
    return {
        row["listing_id"]
        for row in sandbox.truth_listings()
        if row["findable"] and row["is_furniture"]
    }


def served(sandbox: SandboxProcess, size: str = "570xN") -> list[dict[str, Any]]:
    """Images of those listings, as the CDN serves them."""
    return [row for row in sandbox.truth_images(size) if row["findable"]]


def file_of(image: dict[str, Any], folder: str = "images") -> str:
    listing_id, extension = image["listing_id"], WHOLE_KINDS[image["kind"]]
    return f"{folder}/{listing_id % 1000:03d}/{listing_id}_{image['image_id']}.{extension}"


def check_complete(
    home: Home, size: str = "570xN", images: list[dict[str, Any]] | None = None
) -> None:
    """Hold the home against the truth: listings, files to the byte, rows, metadata."""
    assert home.sandbox is not None
    truth = served(home.sandbox, size) if images is None else images
    active = {row[0] for row in home.rows("SELECT listing_id FROM listings WHERE state='active'")}
    expected = findable(home.sandbox)
    assert active == expected, f"missing {expected - active}, too many {active - expected}"
    check_images(home, truth, size)


def check_images(home: Home, truth: list[dict[str, Any]], size: str = "570xN") -> None:
    """Every reachable image of `truth` is there to the byte and in the metadata, and no other."""
    whole = {file_of(row): row["sha256"] for row in truth if row["kind"] in WHOLE_KINDS}
    files = home.files()
    missing, extra = whole.keys() - files.keys(), files.keys() - whole.keys()
    assert not missing, f"{len(missing)} files are missing: {sorted(missing)[:5]}"
    assert not extra, f"{len(extra)} files too many: {sorted(extra)[:5]}"
    wrong = [name for name, path in files.items() if digest(path) != whole[name]]
    assert not wrong
    rows = home.rows("SELECT file, hex(sha256), bytes, size FROM images WHERE status = 'done'")
    assert {f"images/{file}": sha.lower() for file, sha, _, _ in rows} == whole
    assert all(files[f"images/{file}"].stat().st_size == length for file, _, length, _ in rows)
    assert {row[3] for row in rows} <= {size}
    check_metadata(home, truth)


def check_metadata(home: Home, truth: list[dict[str, Any]]) -> None:
    """`image_metadata.json` has exactly the promised form and says the truth of these images."""
    metadata = home.metadata()
    by_listing: dict[str, dict[int, Any]] = {}
    for listing_id, entry in metadata.items():
        assert set(entry) == {"shop_id", "images"}
        for image in entry["images"]:
            assert set(image) == {"image_id", "rank", "url", "file", "status"}
            assert image["status"] in {"pending", "done", "gone", "bad", "failed"}
            assert (image["file"] is not None) >= (image["status"] == "done")
        by_listing[listing_id] = {image["image_id"]: image for image in entry["images"]}
    for row in truth:
        image = by_listing[str(row["listing_id"])][row["image_id"]]
        assert metadata[str(row["listing_id"])]["shop_id"] == row["shop_id"]
        assert (image["rank"], image["url"]) == (row["rank"], row["urls"]["570xN"])
        if row["kind"] in WHOLE_KINDS:
            assert (image["status"], image["file"]) == ("done", file_of(row))


def check_no_partial(home: Home, truth: dict[str, str]) -> None:
    """Whatever lies under a final name is whole; `truth`: digests by file."""
    for name, path in home.files().items():
        assert digest(path) == truth[name], f"{name} is partial"


def digests(images: list[dict[str, Any]]) -> dict[str, str]:
    return {file_of(row): row["sha256"] for row in images if row["kind"] in WHOLE_KINDS}


def calls(sandbox: SandboxProcess) -> int:
    return int(sandbox.asked()["total"])


@contextmanager
def no_questions(sandbox: SandboxProcess):
    """Nothing is asked of API or CDN inside."""
    sandbox.reset_asked()
    yield
    asked = sandbox.asked()
    assert (asked["total"], asked["cdn"]["total"]) == (0, 0), asked
