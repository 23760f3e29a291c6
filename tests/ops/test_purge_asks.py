"""Purge tells beforehand exactly what it does, and deletes nothing that nobody agreed to."""

from __future__ import annotations

import os
import pty
import random
import shutil
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from kept_world import BUYERS, DAY, NOW, SHOPS, KeptHome, picture

from furnisync.catalog.imported import ImportedFile, import_altered
from furnisync.catalog.schema import APPLICATION_ID, MIGRATIONS, open_catalog
from furnisync.errors import UserError
from furnisync.history import staging
from furnisync.history.schema import open_history
from furnisync.ops.purge.purge import Purge, count_home, purge_home
from furnisync.sqlite.database import open_database, transaction

ROOT = Path(__file__).resolve().parents[2]


class OddHome(KeptHome):
    """A home as faults, kills and years leave it; another one for each seed."""

    def __init__(self, path: Path, seed: int) -> None:
        super().__init__(path)
        self.chance = random.Random(seed)

    def grow(self) -> OddHome:
        self.make()
        for day in self.chance.sample(range(1, 200), 2):
            shop = self.chance.choice(list(SHOPS))
            self.find_listings(NOW + day * DAY, {shop: SHOPS[shop]})
            self.append_history(NOW + day * DAY, {shop: SHOPS[shop]})
        self.clock.at = NOW + 200 * DAY
        self._spoil_files()
        self._add_altered()
        self._stage()
        self._add_oddities()
        missing = self.chance.choice(["catalog", "history", None, None, None])
        if missing is not None:
            for path in self.path_of(missing):
                path.unlink(missing_ok=True)
        return self

    def path_of(self, database: str) -> list[Path]:
        path: Path = getattr(self.files, database)
        return [path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")]

    def _spoil_files(self) -> None:
        """Lost files, files of images that wait, another format than the row says, dead links."""
        for file in self.images():
            what = self.chance.choice(["lost", "renamed", "link", "pending", "as it was", "twice"])
            if what == "lost":
                file.unlink()
            elif what == "renamed":
                file.rename(file.with_suffix(".webp"))
            elif what == "twice":
                shutil.copy(file, file.with_suffix(".png"))
            elif what == "link":
                file.unlink()
                file.symlink_to("/nowhere")
            elif what == "pending":
                self.change(
                    "UPDATE images SET status = 'pending', next_try = 1, file = NULL"
                    " WHERE image_id = ?", int(file.stem.partition("_")[2]),
                )  # fmt: skip

    def _add_altered(self) -> None:
        rows = self.rows("SELECT listing_id, image_id FROM images")
        with closing(open_catalog(self.files.catalog)) as catalog, transaction(catalog):
            for listing_id, image_id in self.chance.sample(rows, 3):
                file = f"altered/{listing_id % 1000:03d}/{listing_id}_{image_id}.jpg"
                body = picture(image_id)
                if self.chance.random() < 0.7:
                    path = self.files.images / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(body)
                facts = ImportedFile(file, "570xN", len(body), 60, 40, b"x" * 32, NOW)
                import_altered(catalog, [(listing_id, image_id, facts)])

    def _stage(self) -> None:
        at = self.chance.choice([NOW, NOW + 150 * DAY])
        with closing(open_history(self.files.history, self.selection())) as history:
            for shop, ids in SHOPS.items():
                if self.chance.random() < 0.7:
                    with transaction(history):
                        staging.begin_shop_sync(history, shop, at, ids=ids)

    def _add_oddities(self) -> None:
        for table, key in (("shops", 1), ("listings", 1001), ("reviews", 1001 + NOW)):
            self.change(
                "INSERT INTO oddities (snapshot_timestamp, table_name, id, field, value)"
                " VALUES (?, ?, ?, 'x', 'y')", NOW, table, key, history=True,
            )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_what_is_counted_is_what_goes(tmp_path, seed):
    choice = random.Random(seed)
    for by, values in (
        ("listing", [1001, 2002, 77]), ("shop", [1, 2, 77]), ("buyer", [501, 503, 77]),
        ("age", [0.5, 60, 150, 199.5, 400]),
    ):  # fmt: skip
        home = OddHome(tmp_path / by, seed).grow()
        before = sorted(home.files.home.rglob("*"))
        purge = Purge(by, choice.choice(values))
        counted = count_home(home.files, home.clock, purge)
        assert sorted(home.files.home.rglob("*")) == before  # counting makes nothing
        gone = purge_home(home.files, home.data, home.clock, purge, counted.__eq__)
        assert gone == counted, (by, purge.value)  # None: what was shown was not the same
        again = count_home(home.files, home.clock, purge)
        assert sum(one.number for one in again) == 0, again


def test_the_worlds_hold_what_the_property_is_about(tmp_path):
    seen = set()
    for seed in range(12):
        home = OddHome(tmp_path / str(seed), seed).grow()
        for purge in (Purge("shop", 1), Purge("age", 100), Purge("buyer", 501)):
            counted = count_home(home.files, home.clock, purge)
            seen |= {(purge.by, one.what) for one in counted if one.number}
    everything = {
        "image files", "images", "altered images", "listings", "shops", "oddities", "reviews",
        "staged rows of unfinished syncs", "listings_dynamic", "shops_dynamic",
    }  # fmt: skip
    assert seen >= {(by, what) for by in ("shop", "age") for what in everything}
    assert ("buyer", "reviews") in seen


# -- who agrees ------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    return KeptHome(tmp_path / "home").make()


def environment(home):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ETSY_", "FURNISYNC_"))}
    return {**clean, "FURNISYNC_HOME": str(home.files.home), "TERM": "xterm", "COLUMNS": "120"}


def command(*arguments):
    return [sys.executable, "-m", "furnisync", "purge", *map(str, arguments)]


def run(home, *arguments):
    """With a pipe on every end, as from cron."""
    return subprocess.run(
        command(*arguments), env=environment(home), cwd=ROOT, text=True, input="y\n" * 9,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip


def on_terminal(home, answer, *arguments):
    """On a terminal of its own, where the question is answered once it is asked."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(*arguments), stdin=child, stdout=child, stderr=child, cwd=ROOT,
        env=environment(home),
    )  # fmt: skip
    os.close(child)
    shown, before = b"", None
    with suppress(OSError):  # the terminal is closed at its other end
        while piece := os.read(parent, 65536):
            shown += piece
            if before is None and b"Delete this for good?" in shown:
                before = home.rows("SELECT count(*) FROM listings")
                os.write(parent, answer)
    os.close(parent)
    assert before == [(4,)], shown
    return process.wait(), shown.decode()


def test_a_terminal_is_asked_once_it_was_shown_what_would_go(home):
    status, shown = on_terminal(home, b"n\n", "--shop", 1)
    assert status == 0
    assert "Nothing was deleted." in shown
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    assert len(home.images()) == 8
    status, shown = on_terminal(home, b"y\n", "--shop", 1)
    assert status == 0
    told, done = shown.split("Delete this for good?")
    for line in ("image files        4", "listings           2", "listings_dynamic   2"):
        what, number = line.rsplit(maxsplit=1)
        for part in (told, done):
            assert [
                row for row in part.splitlines()
                if what.strip() in row and row.split()[-1] == number
            ], (line, part)  # fmt: skip
    assert "would be deleted" in told
    assert home.rows("SELECT listing_id FROM listings") == [(one,) for one in SHOPS[2]]


def test_a_question_without_an_answer_deletes_nothing(home):
    status, _ = on_terminal(home, b"\x04", "--shop", 1)  # the end of all input
    assert status != 0
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    assert home.rows("SELECT * FROM purged") == []


def test_elsewhere_it_wants_yes(home):
    ended = run(home, "--older-than", 1)
    assert ended.returncode == 2
    assert "--yes" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    assert run(home, "--older-than", 1, "--dry-run").returncode == 0
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    assert run(home, "--buyer", 501, "--yes").returncode == 0
    left = {row[0] for row in home.rows("SELECT buyer_user_id FROM reviews", history=True)}
    assert left == set(BUYERS.values()) - {501}


def test_without_any_standard_input_it_wants_yes(home):
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command("--shop", 1)], env=environment(home),
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stdout
    assert "--yes" in ended.stdout


@pytest.mark.parametrize("days", ["0", "-0.0", "-1", "nan", "inf", "-inf", "1e300", "1e5"])
def test_an_age_that_is_none_is_refused(home, days):
    ended = run(home, f"--older-than={days}", "--yes")
    assert ended.returncode == 2, ended.stdout
    assert "above 0" in " ".join(ended.stdout.split())
    assert len(ended.stdout.splitlines()) <= 3
    assert home.rows("SELECT count(*) FROM listings") == [(4,)]
    assert len(home.images()) == 8


def test_zero_is_told_to_mean_the_opposite_in_the_settings(home):
    words = " ".join(run(home, "--older-than", 0, "--yes").stdout.split())
    assert "would delete everything" in words
    assert "retention_days = 0 means: keep everything" in words


@pytest.mark.parametrize("option", ["--listing", "--shop", "--buyer"])
def test_an_id_that_no_database_holds_is_refused(home, option):
    ended = run(home, option, 2**63, "--yes")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stdout


def test_databases_of_an_older_version_are_renewed_before_they_are_counted(tmp_path):
    home = KeptHome(tmp_path / "home")
    with closing(open_database(home.files.catalog, APPLICATION_ID, MIGRATIONS[:-1])) as catalog:
        catalog.execute("INSERT INTO listings (listing_id, first_seen) VALUES (1001, 1)")
    told = []
    purge = Purge("listing", 1001)
    purge_home(home.files, home.data, home.clock, purge, lambda counted: bool(told.extend(counted)))
    assert sum(one.number for one in told) == 1
    assert home.rows("SELECT listing_id FROM listings") == [(1001,)]


def test_a_file_that_cannot_be_removed_is_one_sentence(home):
    """Its place is taken by a folder: what rights forbid would not stop root."""
    file = home.images()[0]
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match="run the same command again"):
        purge_home(home.files, home.data, home.clock, Purge("listing", 1001))
    file.rmdir()
    assert purge_home(home.files, home.data, home.clock, Purge("listing", 1001))
    assert home.rows("SELECT 1 FROM listings WHERE listing_id = 1001") == []
