"""A home whose commands run as processes, and what the sandbox's truth says of a certificate."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.processes import DAY_S, FREE, ROOT, later, surroundings

from furnisync.sandbox.process import SandboxProcess

TINY_IMAGES = {"images_mean": 1, "image_bytes": 1500, "pictures": 2}
SMALL = {"shops": 20, "listings": 300, "reviews_mean": 2, **TINY_IMAGES, **FREE}
HOUR_S = 3600.0


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    errors: str


class Home:
    """A folder with settings, pointed at a sandbox; `sections` are those of furnisync.toml."""

    def __init__(self, path: Path, sandbox: SandboxProcess, **sections: dict[str, Any]) -> None:
        self.path = path
        self.sandbox = sandbox
        path.mkdir(exist_ok=True)
        sections = {**sections, "images": {"min_free_mb": 0, **sections.get("images", {})}}
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        (path / "furnisync.toml").write_text("\n".join(lines) + "\n")

    def environment(self) -> dict[str, str]:
        return surroundings(self.sandbox, {"FURNISYNC_HOME": str(self.path)})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command of `furnisync` under way; its words go into a file."""
        with (self.path / "words.log").open("a") as words:
            return subprocess.Popen(
                [sys.executable, "-u", "-m", "furnisync", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment(),
                text=True,
            )

    def run(self, *arguments: str, status: int | None = 0, timeout_s: float = 120.0) -> Ended:
        """Run a command of `furnisync` to its end."""
        done = subprocess.run(
            [sys.executable, "-u", "-m", "furnisync", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=ROOT,
            env=self.environment(),
            text=True,
            timeout=timeout_s,
            check=False,
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
        assert status is None or ended.status == status, f"{ended.out}\n{ended.errors}"
        return ended

    def sync(self, *arguments: str, status: int = 0, timeout_s: float = 120.0) -> Ended:
        return self.run("images", "--fast", *arguments, status=status, timeout_s=timeout_s)

    def coverage(self, status: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("coverage", "--json", status=status).out)
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").out)
        return found

    def later(self, seconds: float) -> None:
        """Let time pass, for the sandbox and for the home's commands."""
        later(self.sandbox, seconds / DAY_S)

    def rows(self, sql: str, *values: object, name: str = "catalog.db") -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.path / name}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def ids(self, sql: str, *values: object, name: str = "catalog.db") -> set[int]:
        return {row[0] for row in self.rows(sql, *values, name=name)}

    def plan(self) -> dict[str, Any]:
        """The home's plan; empty where none was written yet."""
        if not self.plan_path.exists():
            return {}
        found: dict[str, Any] = json.loads(self.plan_path.read_text())
        return found

    @property
    def plan_path(self) -> Path:
        return self.path / "furniture_taxonomy_config.json"

    def write_plan(self, *breaks: float, taxonomy_id: int = 967, **more: Any) -> None:
        entry = {"id": taxonomy_id, "name": "Furniture", "price_breaks": breaks, **more}
        self.plan_path.write_text(json.dumps({"description": "mine", "taxonomies": [entry]}))


def furniture(sandbox: SandboxProcess) -> dict[int, dict[str, Any]]:
    """Active furniture listings that the search shows, by id."""
    return {
        row["listing_id"]: row
        for row in sandbox.truth_listings()
        if row["findable"] and row["is_furniture"]
    }


def inside(line: dict[str, Any], listing: dict[str, Any]) -> bool:
    """Whether a listing's price lies in the interval of a certificate's line."""
    low = 0.0 if line["low"] is None else line["low"]
    high = 1e18 if line["high"] is None else line["high"]
    return bool(low <= listing["price_usd"] <= high)


def check_exact(certificate: dict[str, Any], truth: Iterable[dict[str, Any]]) -> None:
    """Over a world that stood still each line says what there is, to the listing."""
    listings = list(truth)
    for line in certificate["intervals"]:
        number = sum(inside(line, one) for one in listings)
        told = (line["count"], line["found"], line["short"], line["verdict"])
        assert told == (number, number, 0, "complete"), line
    assert certificate["listings_found"] == len(listings)


def calls(sandbox: SandboxProcess) -> int:
    return int(sandbox.asked()["total"])


def calls_of(sandbox: SandboxProcess, name: str) -> int:
    return sum(sandbox.asked()["calls"].get(name, {}).values())
