"""Homes with databases of our own, and the commands as processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from furnisync.catalog.listings import Listed, add_listed
from furnisync.catalog.schema import open_catalog
from furnisync.clock import OFFSET_VARIABLE
from furnisync.history.fields.selection import Selection
from furnisync.history.schedule import register_shops
from furnisync.history.schema import open_history
from furnisync.sandbox.process import NOON
from furnisync.sqlite.database import transaction

ROOT = Path(__file__).resolve().parents[2]


class BackupHome:
    """A home whose commands start at `NOON`, so that no day or week ends between two of them."""

    def __init__(self, path: Path, env: dict[str, str] | None = None) -> None:
        self.path = path
        self.env = env or {}
        self._noon_offset_s = NOON - time.time()
        path.mkdir(exist_ok=True)

    def environment(self, offset_s: float = 0) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ETSY_", "FURNISYNC_"))}
        return {
            **clean,
            **self.env,
            "FURNISYNC_HOME": str(self.path),
            OFFSET_VARIABLE: str(self._noon_offset_s + offset_s),
        }

    def start(self, *arguments: object, offset_s: float = 0, **options: Any):
        return subprocess.Popen(
            [sys.executable, "-m", "furnisync", *map(str, arguments)],
            env=self.environment(offset_s), cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options,
        )  # fmt: skip

    def run(self, *arguments: object, **options: Any) -> tuple[int, str]:
        process = self.start(*arguments, **options)
        out, _ = process.communicate(timeout=120)
        return process.returncode, out

    def backup(self, *arguments: object, **options: Any) -> str:
        status, out = self.run("backup", *arguments, **options)
        assert status == 0, out
        return out

    def backups(self, folder: str = "backups") -> list[Path]:
        return sorted((self.path / folder).glob("furnisync-*"))

    def fill(self, first: int, number: int) -> None:
        """Some rows in both databases."""
        with closing(open_catalog(self.path / "catalog.db")) as catalog, transaction(catalog):
            ids = range(first, first + number)
            add_listed(catalog, [Listed(i, i % 100 + 1, 967, 1.5, 5) for i in ids], 7)
        path = self.path / "etsy_data.db"
        with closing(open_history(path, Selection.of())) as history, transaction(history):
            register_shops(history, [(i, 3) for i in ids])

    def dump(self, catalog: str = "catalog.db", history: str = "etsy_data.db") -> dict[str, Any]:
        found = {}
        for name in (catalog, history):
            with closing(sqlite3.connect(self.path / name)) as connection:
                tables = connection.execute(
                    "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1"
                ).fetchall()
                for (table,) in tables:
                    rows = connection.execute(f"SELECT * FROM {table}").fetchall()
                    found[table, len(found)] = sorted(rows, key=repr)
        return found
