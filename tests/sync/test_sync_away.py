"""Away is not empty: an image folder whose disk is not there, and a catalog that was lost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from support.mounted_disk import MountedDisk
from support.sync_world import Home, check_complete, digest, served, small_sandbox

from furnisync.identity import HOME_MARK, IMAGES_MARK

AWAY = "the image folder of this home is not here: mount its disk"
DONE = "SELECT count(*) FROM images WHERE status = 'done'"
PENDING = "SELECT count(*) FROM images WHERE status = 'pending'"
TRIED = "SELECT count(*) FROM images WHERE attempts > 0"


@pytest.fixture
def sandbox():
    with small_sandbox(shops=5, listings=80) as sandbox:
        yield sandbox


@pytest.fixture
def home(tmp_path, sandbox):
    return Home(tmp_path / "home", sandbox, images={"slow_per_second": 10.0})


@pytest.fixture
def disk(tmp_path, home):
    disk = MountedDisk(home.path / "images", tmp_path / "disk")
    home.inside = disk.inside
    yield disk
    disk.close()


def change(home: Home, sql: str) -> None:
    with closing(sqlite3.connect(home.path / "catalog.db")) as connection, connection:
        connection.execute(sql)


def mount_point(home: Home) -> list[str]:
    """What lies in the folder below the disk."""
    return [path.name for path in (home.path / "images").rglob("*")]


def check_disk(home: Home, disk: MountedDisk) -> None:
    """Every image that is done lies on the disk, to the byte."""
    rows = home.rows("SELECT file, hex(sha256) FROM images WHERE status = 'done'")
    assert len(rows) == len([row for row in served(home.sandbox) if row["kind"] != "html"])
    assert all(digest(disk.content / file) == sha.lower() for file, sha in rows)


def test_a_disk_that_vanishes_in_the_middle_costs_nothing_and_is_waited_for(home, disk):
    run = home.start("--slow")
    run.until(lambda: home.number(DONE) > 10)
    disk.unmount()
    run.until(lambda: f"downloads pause: {AWAY}" in run.words)
    run.until(lambda: home.rows("SELECT 1 FROM passes WHERE complete"))  # discovery goes on
    run.until(lambda: home.number("SELECT count(*) FROM images") > 60)
    run.until(lambda: (home.status()["activity"] or {}).get("downloads_paused_kind") == "away")
    status = home.status()
    assert AWAY in status["activity"]["downloads_paused"]
    assert AWAY in status["image_folder_away"]
    assert AWAY in " ".join(home.run("status").out.split())
    assert (home.number(TRIED), mount_point(home)) == (0, [])
    verified = home.run("verify")
    assert verified.status == 2
    assert "not here: mount its disk" in verified.out

    run.kill()  # and a power cut on top of it
    run = home.start("--slow")
    run.until(lambda: f"downloads pause: {AWAY}" in run.words)
    assert mount_point(home) == []
    disk.mount()
    run.until(lambda: "downloads continue" in run.words)
    run.until(lambda: home.number(DONE) > 10 and home.number(PENDING) == 0)
    run.process.terminate()
    ended = run.wait()
    assert ended.status == 0
    assert ended.out.count("ERROR downloads pause: ") == ended.out.count("downloads continue") == 1
    assert (home.number(TRIED), mount_point(home)) == (0, [])
    check_disk(home, disk)


def test_a_fast_run_whose_disk_vanishes_ends_with_the_reason(home, disk):
    home.configure(images={"fast_per_second": 10.0})
    run = home.start("--fast")
    run.until(lambda: home.number(DONE) > 10)
    disk.unmount()
    ended = run.wait()
    assert ended.status == 1
    assert AWAY in ended.out
    assert home.number(PENDING) > 0
    assert (home.number(TRIED), mount_point(home)) == (0, [])
    disk.mount()
    home.configure()
    assert home.sync("--fast").status == 0
    check_disk(home, disk)


def test_a_folder_that_cannot_be_written_is_told_as_that_once(home, disk):
    assert home.sync("--limit", "1").status == 0
    disk.remount("ro")
    run = home.start("--slow")
    run.until(lambda: "cannot be written (Read-only file system)" in run.words)
    run.until(
        lambda: (home.status()["activity"] or {}).get("downloads_paused_kind") == "unwritable"
    )
    run.until(lambda: home.rows("SELECT 1 FROM passes WHERE complete"))
    assert "until there is room" not in run.words
    disk.remount("rw")
    run.until(lambda: "downloads continue" in run.words)
    run.until(lambda: home.number(PENDING) == 0)
    run.process.terminate()
    ended = run.wait()
    assert ended.out.count("ERROR downloads pause: ") == ended.out.count("downloads continue") == 1
    assert home.number(TRIED) == 0
    check_disk(home, disk)


def test_a_fast_run_ends_with_the_reason_where_only_absent_images_are_left(home, sandbox):
    assert home.sync("--fast").status == 0
    images = home.path / "images"
    images.rename(home.path / "unplugged")
    change(home, "UPDATE images SET status = 'pending', next_try = 1 WHERE status = 'done'")
    sandbox.reset_asked()
    ended = home.sync("--fast")
    assert ended.status == 1
    assert AWAY in " ".join(ended.out.split())
    assert "--accept-folder" in ended.out
    assert not images.exists()
    assert (home.number(TRIED), sandbox.asked()["cdn"]["total"]) == (0, 0)
    (home.path / "unplugged").rename(images)
    assert home.sync("--fast").status == 0
    check_complete(home)


def test_a_run_with_nothing_to_fetch_ends_with_the_reason_too(home):
    assert home.sync("--fast").status == 0
    (home.path / "images").rename(home.path / "unplugged")
    ended = home.sync("--fast")
    assert ended.status == 1
    assert AWAY in " ".join(ended.out.split())
    assert "recorded, the folder is not here" in " ".join(ended.out.split())


def test_another_homes_images_are_neither_used_nor_touched(home):
    assert home.sync("--fast").status == 0
    mark = home.path / "images" / IMAGES_MARK
    mark.write_text(json.dumps({"home": "another", "folder": "images"}))
    change(home, "UPDATE images SET status = 'pending', next_try = 1 WHERE status = 'done'")
    before = {name: path.stat().st_mtime_ns for name, path in home.files().items()}
    ended = home.sync("--fast")
    assert (ended.status, "the mark of another home" in " ".join(ended.out.split())) == (1, True)
    assert {name: path.stat().st_mtime_ns for name, path in home.files().items()} == before


def test_a_home_of_an_older_version_gets_its_marks_where_the_images_agree(home):
    assert home.sync("--fast").status == 0
    marks = [home.path / HOME_MARK, home.path / "images" / IMAGES_MARK]
    for mark in marks:
        mark.unlink()
    change(home, "DELETE FROM meta WHERE key IN ('home_id', 'image_folder_marked')")
    assert home.sync("--fast").status == 0
    assert all(mark.exists() for mark in marks)
    check_complete(home)


def test_an_empty_folder_of_an_older_version_gets_no_mark(home):
    assert home.sync("--fast").status == 0
    (home.path / "images").rename(home.path / "unplugged")
    (home.path / "images").mkdir()
    change(home, "DELETE FROM meta WHERE key IN ('home_id', 'image_folder_marked')")
    home.sync("--fast")
    assert mount_point(home) == []


def test_the_test_home_has_a_folder_and_mark_of_its_own(home):
    assert home.sync("--fast", "--limit", "2").status == 0
    assert home.sync("--fast", "--limit", "2", "--test").status == 0
    marks = [json.loads((home.path / name / IMAGES_MARK).read_text())
             for name in ("images", "images_test")]  # fmt: skip
    assert marks[0]["home"] == marks[1]["home"]
    (home.path / "images").rename(home.path / "unplugged")
    (home.path / "images_test").rename(home.path / "images")
    assert "another home" in home.status()["image_folder_away"]


def test_the_folder_that_is_lost_for_good_is_accepted_and_filled_again(home):
    assert home.sync("--fast").status == 0
    number = home.number(DONE)
    for path in (home.path / "images").rglob("*"):
        if path.is_file():
            path.unlink()
    refused = home.run("verify", "--repair")
    assert refused.status == 2
    assert home.number(DONE) == number
    repaired = home.run("verify", "--repair", "--accept-folder")
    assert repaired.status == 0
    assert f"downloads {number:,} again" in " ".join(repaired.out.split())
    assert home.sync("--fast").status == 0
    check_complete(home)


# -- a catalog that was lost ---------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["empty", "gone"])
def test_files_beside_a_lost_catalog_are_taken_over(home, sandbox, lost):
    assert home.sync("--fast").status == 0
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (home.path / name).unlink(missing_ok=True)
    (home.path / "catalog.db").unlink()
    (home.path / "image_metadata.json").unlink()
    if lost == "empty":
        (home.path / "catalog.db").touch()
    cut, *_ = home.files().values()
    cut.write_bytes(cut.read_bytes()[:-50])
    before = {name: path.stat().st_mtime_ns for name, path in home.files().items()}
    sandbox.reset_asked()
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    assert "catalog.db is new beside image files" in " ".join(ended.out.split())
    check_complete(home)
    after = {name: path.stat().st_mtime_ns for name, path in home.files().items()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {str(cut.relative_to(home.path))}
    not_images = sum(row["kind"] not in {"jpeg", "png", "webp", "gif"} for row in served(sandbox))
    assert sandbox.asked()["cdn"]["total"] <= 1 + 10 * not_images
    assert f"{len(after) - 1} image files were here already" in " ".join(ended.out.split())


def test_taking_over_goes_on_after_a_kill(home, sandbox):
    assert home.sync("--fast").status == 0
    for name in ("catalog.db-wal", "catalog.db-shm", "catalog.db", "image_metadata.json"):
        (home.path / name).unlink(missing_ok=True)
    before = {name: path.stat().st_mtime_ns for name, path in home.files().items()}
    run = home.start("--slow")
    run.until(lambda: home.number("SELECT count(*) FROM images") > 0)
    run.kill()
    assert home.sync("--fast").status == 0
    check_complete(home)
    assert {name: path.stat().st_mtime_ns for name, path in home.files().items()} == before


def test_a_damaged_file_of_a_known_image_is_fetched_and_not_taken_over(home):
    """Verify queued it: the file under its name is the damage. A whole picture is kept beside."""
    assert home.sync("--fast").status == 0
    change(home, "UPDATE meta SET value = '1' WHERE key = 'begun_beside_files'")
    first, second, *_ = home.files().values()
    first.write_bytes(second.read_bytes())
    assert home.run("verify", "--sha256", "--repair").status == 0
    assert home.sync("--fast").status == 0
    (kept,) = first.parent.glob(f"{first.name}.kept-*")
    assert kept.read_bytes() == second.read_bytes()
    kept.unlink()
    check_complete(home)
