"""Verify finds each kind of damage, raises no false alarm beside a sync, repairs by fetching."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
import time
from contextlib import closing

import pytest
from kept_world import NOW, KeptHome, picture
from support.sync_world import Home, small_sandbox

from furnisync.catalog.image_queue import record_outcomes
from furnisync.catalog.schema import open_catalog
from furnisync.errors import AlreadyRunning, NotHere
from furnisync.image_job import ImageJob, ImageOutcome
from furnisync.lockfile import single_instance
from furnisync.ops.checks import verify_images
from furnisync.ops.checks.verify import Verify, VerifyReport
from furnisync.sqlite.database import transaction
from furnisync.store.folder import FolderStore


class Silent:
    def begin(self, title, total):
        pass

    def step(self, number):
        pass


@pytest.fixture
def home(tmp_path):
    return KeptHome(tmp_path / "home").make()


def verify(home, *, sha256=False, repair=False) -> VerifyReport:
    return Verify(home.files, home.clock, Silent(), sha256=sha256, repair=repair).run()


def test_nothing_is_wrong_with_a_whole_home(home):
    report = verify(home, sha256=True)
    assert (report.images, report.files) == (8, 8)
    assert (report.numbers, report.rows, report.wrong) == ({}, [], 0)


def test_each_kind_of_damage_is_named(home):
    lost, cut, grown, swapped, *_ = home.images()
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    grown.write_bytes(grown.read_bytes() + b"more")
    body = bytearray(swapped.read_bytes())
    body[200] ^= 1
    swapped.write_bytes(body)
    stranger = home.files.images / "007" / "holiday.jpg"
    stranger.parent.mkdir()
    stranger.write_bytes(b"mine")
    assert verify(home).numbers == {"missing": 1, "truncated": 1, "changed": 1, "extra": 1}
    report = verify(home, sha256=True)
    assert report.numbers == {"missing": 1, "truncated": 1, "changed": 2, "extra": 1}
    assert report.wrong == 4  # an extra file does no harm
    named = {(one.kind, one.file) for one in report.troubles}
    assert ("extra", "007/holiday.jpg") in named
    assert ("missing", str(lost.relative_to(home.files.images))) in named


def test_repair_queues_anew_and_deletes_nothing(home):
    lost, cut, *_ = home.images()
    lost.unlink()
    cut.write_bytes(b"half")
    stranger = home.files.images / "mine.txt"
    stranger.write_text("keep me")
    report = verify(home, repair=True)
    assert (report.repaired, report.wrong) == (2, 0)
    queued = home.rows("SELECT count(*) FROM images WHERE status = 'pending' AND file IS NULL")
    assert queued == [(2,)]
    assert cut.exists()
    assert stranger.read_text() == "keep me"
    home.check_counters()
    home.find_listings(NOW + 1)  # the next run fetches them
    again = verify(home, sha256=True)
    assert (again.wrong, again.numbers) == (0, {"extra": 1})


def test_a_file_that_waits_for_its_row_is_not_extra(home):
    """A killed run leaves a whole file whose row was never committed."""
    home.change(
        "UPDATE images SET file = NULL, status = 'pending', next_try = 1 WHERE image_id = 10011"
    )
    assert verify(home).numbers == {}


def test_files_adopted_in_place_are_known_by_their_rows(home):
    old = home.files.images / "1001.jpg"
    home.images()[0].rename(old)
    home.change("UPDATE images SET file = '1001.jpg' WHERE image_id = 10011")
    assert verify(home, sha256=True).numbers == {}


def test_rows_without_parents_are_told_and_asked_for_again(home):
    home.change("DELETE FROM listings WHERE listing_id = 1001")
    home.change("DELETE FROM shops WHERE shop_id = 2")
    home.change("DELETE FROM listings WHERE listing_id = 2001", history=True)
    home.change("UPDATE listings SET shop_id = 9 WHERE listing_id = 1002", history=True)
    told = {one.words: (one.number, one.examples) for one in verify(home).rows}
    assert told == {
        "images of a listing that has no row": (2, (1001,)),
        "listings of a shop that has no row": (2, (2,)),
        "changing values of a listing whose lasting ones are not there": (1, (2001,)),
        "listings of a shop that nobody syncs": (1, (9,)),
        "listings of one shop in the catalog, of another in the history": (1, (1002,)),
    }
    report = verify(home, repair=True)
    assert (report.repaired, report.wrong) == (4, 3)
    assert home.rows("SELECT batch_due FROM listings WHERE listing_id = 1001") == [(NOW,)]
    assert home.rows("SELECT synced_at FROM shops WHERE shop_id = 2") == [(None,)]


def test_a_damaged_database_is_told(home):
    page = home.files.history.read_bytes().index(b"Table 1001") // 4096
    with home.files.history.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 64)
    report = verify(home)
    assert report.wrong
    assert any(one.database == "history" and "damage" in one.words for one in report.rows)


def test_an_unmounted_disk_does_not_look_like_lost_images(home):
    home.files.images.rename(home.files.home / "elsewhere")
    with pytest.raises(NotHere, match="mount its disk"):
        verify(home, repair=True)
    assert home.rows("SELECT count(*) FROM images WHERE status = 'done'") == [(8,)]


def test_repair_is_refused_while_image_sync_runs(home):
    with single_instance(home.files.lock("images"), "image sync"):
        assert verify(home).wrong == 0
        with pytest.raises(AlreadyRunning):
            verify(home, repair=True)


def test_no_false_alarm_while_a_sync_writes_a_larger_file(home, monkeypatch):
    """The file is replaced before its row is committed: verify looks again until they agree."""
    larger = picture(7) + b"larger"
    store = FolderStore(home.files.images)
    before = (home.files.images / "001/1001_10011.jpg").read_bytes()
    store.put(1001, 10011, "jpg", larger, held=hashlib.sha256(before).digest())
    looked = threading.Event()
    monkeypatch.setattr(verify_images.time, "sleep", lambda _: looked.set())

    def commit_late():
        looked.wait(20)
        with closing(open_catalog(home.files.catalog)) as catalog, transaction(catalog):
            job, name = ImageJob(1001, 10011, ""), "001/1001_10011.jpg"
            done = ImageOutcome(job, "done", None, name, len(larger), 60, 40, b"x")
            record_outcomes(catalog, [done], "fullxfull", NOW)

    with single_instance(home.files.lock("images"), "image sync"):
        thread = threading.Thread(target=commit_late)
        thread.start()
        report = verify(home)
        thread.join()
    assert looked.is_set()
    assert (report.numbers, report.wrong) == ({}, 0)


def test_damage_beside_a_running_sync_is_told_in_the_end(home, monkeypatch):
    instants = itertools.count(0.0, 60.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(instants))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    home.images()[0].unlink()
    with single_instance(home.files.lock("images"), "image sync"):
        assert verify(home).numbers == {"missing": 1}


def test_pages_of_rows_and_files_are_all_looked_at(home):
    """More than one page of rows and one of files, all wrong."""
    pages = 2 * verify_images.PAGE + 1
    for path in home.images():
        path.unlink()
    home.change(
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
        " INSERT INTO images (listing_id, image_id, rank, url, status, file)"
        " SELECT 1001, 900000 + n, n, 'https://i/' || n, 'done', '001/1001_' || n || '.jpg'"
        " FROM number",
        pages,
    )
    for number in range(pages):
        (home.files.images / f"{number}.txt").touch()
    assert verify(home).numbers == {"missing": 8 + pages, "extra": pages}


def test_real_processes_beside_a_sync_and_after_damage(tmp_path):
    with small_sandbox(shops=5, listings=80) as sandbox:
        home = Home(tmp_path / "home", sandbox, images={"slow_per_second": 100.0})
        run = home.start("--slow")
        run.until(lambda: home.number("SELECT count(*) FROM images WHERE status = 'done'") > 10)
        beside = home.run("verify", "--sha256", "--json")
        assert beside.status == 0, beside.out
        found = json.loads(beside.out.splitlines()[-1])
        assert (found["numbers"], found["wrong"], found["images"] > 10) == ({}, 0, True)
        refused = home.run("verify", "--repair")
        assert (refused.status, "already runs" in refused.out) == (2, True)
        run.process.terminate()
        run.wait()
        home.sync("--fast")
        next(iter(home.files().values())).write_bytes(b"damaged")
        told = home.run("verify")
        assert (told.status, "truncated" in told.out) == (1, True)
        assert home.run("verify", "--repair").status == 0
        home.sync("--fast")
        assert home.run("verify", "--sha256").status == 0
