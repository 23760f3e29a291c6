"""An older tool's folder, in every form that was seen of it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
WRITTEN_AT = 1_779_000_000
NOW = WRITTEN_AT + 3600
FAILED = 9_999_999_999

OLD_TABLES = """
CREATE TABLE shops (shop_id INTEGER PRIMARY KEY, snapshot_timestamp INTEGER, create_date INTEGER,
    url TEXT, is_shop_us_based INTEGER, shipping_from_country_iso TEXT,
    shop_location_country_iso TEXT);
CREATE TABLE shops_dynamic (id INTEGER PRIMARY KEY AUTOINCREMENT, shop_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL, update_date INTEGER, listing_active_count INTEGER,
    accepts_custom_requests INTEGER, num_favorers INTEGER, transaction_sold_count INTEGER,
    review_average REAL, review_count INTEGER);
CREATE TABLE listings (listing_id INTEGER PRIMARY KEY, snapshot_timestamp INTEGER,
    shop_id INTEGER NOT NULL, title TEXT, description TEXT, creation_timestamp INTEGER, url TEXT,
    is_customizable INTEGER, tags TEXT, item_weight REAL, price_amount INTEGER,
    price_divisor INTEGER, price_currency TEXT, taxonomy_id INTEGER, production_partners TEXT);
CREATE TABLE listings_dynamic (id INTEGER PRIMARY KEY AUTOINCREMENT, listing_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL, state TEXT, ending_timestamp INTEGER, quantity INTEGER,
    num_favorers INTEGER, views INTEGER);
CREATE TABLE reviews (id INTEGER PRIMARY KEY AUTOINCREMENT, snapshot_timestamp INTEGER,
    shop_id INTEGER, listing_id INTEGER, buyer_user_id INTEGER, rating INTEGER, review TEXT,
    language TEXT, create_timestamp INTEGER);
CREATE TABLE sync_state (key TEXT PRIMARY KEY, value TEXT);
"""
IMAGE_STATUS = """
CREATE TABLE image_status (listing_id INTEGER NOT NULL, image_id INTEGER NOT NULL,
    is_primary INTEGER, url TEXT, download_done INTEGER DEFAULT 0,
    PRIMARY KEY (listing_id, image_id));
"""


def picture(seed: int, size: tuple[int, int] = (570, 400), kind: str = "JPEG") -> bytes:
    """A whole image, another one for each seed."""
    body = BytesIO()
    colour = (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256)
    Image.new("RGB", size, colour).save(body, kind)
    return body.getvalue() + b"%d" % seed


def placeholder() -> bytes:
    return (b"\xff\xd8\xff" + bytes(116))[:119]


class OldFolder:
    """The folder that the older tool worked in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = path / "images"
        self.database = path / "etsy_data.db"
        self.images.mkdir(parents=True, exist_ok=True)

    def metadata(self, entries: dict[str, Any] | bytes) -> Path:
        path = self.path / "image_metadata.json"
        body = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
        path.write_bytes(body)
        os.utime(path, (WRITTEN_AT, WRITTEN_AT))
        return path

    def image(self, name: str, body: bytes) -> Path:
        path = self.images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path

    def tables(self, script: str = OLD_TABLES, **rows: list[dict[str, Any]]) -> None:
        with closing(sqlite3.connect(self.database)) as connection:
            connection.executescript(script)
            for table, given in rows.items():
                for row in given:
                    names, marks = ", ".join(row), ", ".join("?" * len(row))
                    connection.execute(
                        f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values())
                    )
            connection.commit()

    def progress(self, **told: Any) -> None:
        (self.path / "sync_progress.json").write_text(json.dumps(told))

    def contents(self) -> dict[str, str]:
        """Every file with its digest, what SQLite keeps beside a database left aside."""
        return {
            str(path.relative_to(self.path)): digest(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not path.name.endswith(("-wal", "-shm"))
        }


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class NewHome:
    """A home to import into, with the command run as a process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env: dict[str, str] = {}
        path.mkdir(exist_ok=True)

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ETSY_", "FURNISYNC_"))}
        return {**clean, **self.env, "FURNISYNC_HOME": str(self.path)}

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "furnisync", *map(str, arguments)]

    def run(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment(), cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False, **options,
        )  # fmt: skip

    def take(self, *arguments: object) -> str:
        """`furnisync import`, which must succeed."""
        ended = self.run("import", *arguments)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def rows(self, sql: str, *values: object, name: str = "catalog.db") -> list[Any]:
        with closing(sqlite3.connect(f"file:{self.path / name}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def history(self, sql: str, *values: object) -> list[Any]:
        return self.rows(sql, *values, name="etsy_data.db")

    def report(self) -> list[dict[str, str]]:
        path = self.path / "import_report.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def dump(self) -> dict[str, list[Any]]:
        """All that both databases hold."""
        found = {}
        for name in ("catalog.db", "etsy_data.db"):
            if not (self.path / name).exists():
                continue
            tables = self.rows(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name", name=name
            )
            for (table,) in tables:
                found[f"{name} {table}"] = sorted(
                    self.rows(f"SELECT * FROM {table}", name=name), key=repr
                )
        return found

    def check_files(self) -> int:
        """Every row that is done has its file, as its row says; returns how many."""
        rows = self.rows("SELECT file, bytes, sha256 FROM images WHERE file IS NOT NULL")
        for file, size, sha256 in rows:
            path = self.path / "images" / file
            assert path.stat().st_size == size
            assert hashlib.sha256(path.read_bytes()).digest() == sha256
        return len(rows)
