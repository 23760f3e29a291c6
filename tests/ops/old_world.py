"""An older tool's folder, in every form that was seen of it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
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
NEWEST_TABLES = """
CREATE TABLE {shops} (shop_id INTEGER PRIMARY KEY, snapshot_timestamp INTEGER, create_date INTEGER,
    url TEXT, is_shop_us_based INTEGER, shipping_from_country_iso TEXT,
    shop_location_country_iso TEXT, last_dynamic_ts INTEGER DEFAULT 0, prev_review_count INTEGER,
    curr_review_count INTEGER);
CREATE TABLE {shops_dynamic} (id INTEGER PRIMARY KEY AUTOINCREMENT, shop_id INTEGER NOT NULL,
    snapshot_timestamp INTEGER NOT NULL, update_date INTEGER, listing_active_count INTEGER,
    accepts_custom_requests INTEGER, num_favorers INTEGER, transaction_sold_count INTEGER,
    review_average REAL, review_count INTEGER);
CREATE TABLE {listings} (listing_id INTEGER PRIMARY KEY, snapshot_timestamp INTEGER,
    shop_id INTEGER NOT NULL, title TEXT, description TEXT, creation_timestamp INTEGER,
    is_customizable INTEGER, listing_type TEXT, tags TEXT, materials TEXT, who_made TEXT,
    when_made TEXT, taxonomy_id INTEGER, production_partners TEXT,
    last_dynamic_ts INTEGER DEFAULT 0);
CREATE TABLE {listings_dynamic} (id INTEGER PRIMARY KEY AUTOINCREMENT,
    listing_id INTEGER NOT NULL, snapshot_timestamp INTEGER NOT NULL, state TEXT,
    ending_timestamp INTEGER, quantity INTEGER, num_favorers INTEGER, views INTEGER,
    price_amount INTEGER, price_divisor INTEGER, price_currency TEXT);
CREATE TABLE {reviews} (shop_id INTEGER NOT NULL, listing_id INTEGER NOT NULL,
    buyer_user_id INTEGER, rating INTEGER, review TEXT, language TEXT,
    create_timestamp INTEGER NOT NULL);
CREATE TABLE {image_status} (listing_id INTEGER, image_id INTEGER, is_primary INTEGER, url TEXT,
    download_done INTEGER DEFAULT 0, PRIMARY KEY (listing_id, image_id));
CREATE TABLE {sync_state} (key TEXT PRIMARY KEY, value TEXT);
"""
"""What its newest version makes; the test gives the names of the tables."""
PLAIN = {
    name: name
    for name in ("shops", "shops_dynamic", "listings", "listings_dynamic", "reviews",
                 "image_status", "sync_state")
}  # fmt: skip
STATIC = {**PLAIN, "shops": "shops_static", "listings": "listings_static"}
RENAMED = {name: f"v9_{number}" for number, name in enumerate(PLAIN)}
SHOPS, PER_SHOP = (7001, 7002, 7003), 4


def listing_ids(shop_id: int) -> list[int]:
    return [10**9 + (shop_id - 7000) * 10 + number for number in range(PER_SHOP)]


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

    def newest(self, names: dict[str, str] = STATIC) -> None:
        """Its newest form: three shops with four listings each, three images a listing.

        One image waits, one is in a folder (for each second listing an altered one), one in a tar
        of altered pictures; the images of the first listing of each shop are gone.
        """
        folder = self.path / "data" / "db"
        folder.mkdir(parents=True)
        self.database = folder / "etsy_data.db"
        at = WRITTEN_AT - 5 * 86_400
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in PLAIN}
        for shop in SHOPS:
            of = {"shop_id": shop, "snapshot_timestamp": at}
            rows["shops"].append({**of, "create_date": 5, "url": "u", "last_dynamic_ts": at})
            rows["shops_dynamic"].append({**of, "listing_active_count": 4, "review_count": 4})
            rows["reviews"].append(
                {
                    "shop_id": shop,
                    "listing_id": listing_ids(shop)[0],
                    "buyer_user_id": 55,
                    "rating": 5,
                    "review": "good",
                    "create_timestamp": at - 999,
                }
            )
            for number, one in enumerate(listing_ids(shop)):
                rows["listings"].append(
                    {
                        "listing_id": one,
                        **of,
                        "title": f"Oak table {one}",
                        "tags": '["oak"]',
                        "materials": '["wood"]',
                        "production_partners": "[]",
                        "taxonomy_id": 12371,
                    }
                )
                rows["listings_dynamic"].append(
                    {
                        "listing_id": one,
                        "snapshot_timestamp": at,
                        "state": "active",
                        "views": 10,
                        "price_amount": 12500,
                        "price_divisor": 100,
                        "price_currency": "USD",
                    }
                )
                rows["image_status"] += self._newest_images(shop, one, number)
        script = NEWEST_TABLES.format(**names)
        self.tables(script, **{names[name]: given for name, given in rows.items()})
        os.utime(self.database, (WRITTEN_AT, WRITTEN_AT))

    def _newest_images(self, shop: int, listing_id: int, number: int) -> list[dict[str, Any]]:
        rows = []
        for k in range(3):
            image_id = listing_id * 10 % 10**10 + k
            done = (0, 2, 3)[k] if number else -1
            url = f"https://i.etsystatic.com/{shop}/r/il/ab/{image_id}/il_570xN.{image_id}_cd.jpg"
            rows.append({"listing_id": listing_id, "image_id": image_id, "url": url,
                         "is_primary": int(k == 0), "download_done": done})  # fmt: skip
            name = f"{listing_id}_{image_id}.jpg"
            if done == 2:
                folder = "imagedownload" if number % 2 else "imageembedded"
                self.image(f"{folder}/{name}", picture(image_id))
            if done == 3:
                self.tar("imagetarred/imageall_00000.tar", name, picture(image_id))
        return rows

    def tar(self, tar: str, member: str, body: bytes) -> None:
        """Put a member into a tar below the image folder."""
        path = self.images / tar
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "a") as file:
            info = tarfile.TarInfo(member)
            info.size = len(body)
            file.addfile(info, BytesIO(body))

    def progress(self, **content: Any) -> None:
        (self.path / "sync_progress.json").write_text(json.dumps(content))

    def contents(self) -> dict[str, str]:
        """Every file with its digest."""
        return {
            str(path.relative_to(self.path)): digest(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
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
        rows = self.rows(
            "SELECT file, bytes, sha256 FROM images WHERE file IS NOT NULL"
            " UNION ALL SELECT file, bytes, sha256 FROM altered_images"
        )
        for file, size, sha256 in rows:
            path = self.path / "images" / file
            assert path.stat().st_size == size
            assert hashlib.sha256(path.read_bytes()).digest() == sha256
        return len(rows)
