"""An image folder that is away: no command takes its files for lost or for removed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from functools import partial

import pytest
from kept_world import DAY, NOW, KeptHome
from service_world import SMALL, clean_environment, furnisync, make_home, until

from furnisync.catalog.image_folder import why_away
from furnisync.catalog.schema import open_catalog, read_catalog
from furnisync.config import DataSettings, HomeFiles, Settings
from furnisync.errors import ConfigError, NotHere
from furnisync.home import prepare_home
from furnisync.identity import HOME_MARK, IMAGES_MARK, ensure_home_id, home_is_here
from furnisync.images.recheck import mark_running, recheck_recent
from furnisync.ops.backup.archive import BackupFailed
from furnisync.ops.backup.backup import Keep, make_backup
from furnisync.ops.checks.doctor import check_image_folder
from furnisync.ops.notify.alerts import SyncMemory, read_alerts
from furnisync.ops.purge.purge import Purge, count_home, purge_home
from furnisync.ops.purge.retention import Retention
from furnisync.quota.clock_check import ClockCheck
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.writer import Writer
from furnisync.store.folder import FolderStore


@pytest.fixture
def home(tmp_path):
    return KeptHome(tmp_path / "home").make()


def unplug(home: KeptHome) -> None:
    home.files.images.rename(home.files.home / "unplugged")


def away(home: KeptHome) -> str | None:
    with closing(read_catalog(home.files.catalog)) as catalog:
        return why_away(catalog, home.files)


def test_a_whole_folder_is_here_and_an_absent_one_is_away(home):
    assert away(home) is None
    unplug(home)
    assert "does not exist" in (away(home) or "")
    home.files.images.mkdir()
    assert "lacks its mark" in (away(home) or "")


def test_a_copy_without_hidden_files_is_here(home):
    (home.files.images / IMAGES_MARK).unlink()
    assert away(home) is None


@pytest.mark.parametrize("purge", [Purge("listing", 1001), Purge("shop", 1), Purge("age", 1)])
@pytest.mark.parametrize("dry_run", [True, False])
def test_purge_does_not_forget_rows_whose_files_it_cannot_reach(home, purge, dry_run):
    unplug(home)
    home.clock.at = NOW + 30 * DAY
    count = partial(count_home, home.files, home.clock, purge)
    delete = partial(purge_home, home.files, DataSettings(), home.clock, purge)
    with pytest.raises(NotHere, match="mount its disk"):
        count() if dry_run else delete()
    assert home.rows("SELECT count(*) FROM images WHERE status = 'done'") == [(8,)]
    assert home.rows("SELECT count(*) FROM purged") == [(0,)]


def test_purge_of_everything_is_no_absence(home):
    """An old home has no mark, and each page of files that goes makes the folder emptier."""
    (home.files.images / IMAGES_MARK).unlink()
    for shop_id in (1, 2):
        purge_home(home.files, DataSettings(), home.clock, Purge("shop", shop_id))
    assert home.images() == []
    assert home.rows("SELECT count(*) FROM images") == [(0,)]


async def answer_now() -> float:
    """A ping whose answer's clock agrees with ours."""
    return 0.0


def test_retention_waits_for_the_folder(home):
    home.change(
        "INSERT INTO passes (plan, started_at, finished_at, complete) VALUES ('x', ?, ?, 1)",
        NOW + 20 * DAY,
        NOW + 20 * DAY,
    )
    home.change("UPDATE listings SET batch_due = NULL")
    home.clock.at = NOW + 40 * DAY
    retention = Retention(home.files, 1)
    clock = ClockCheck(home.clock, answer_now, lambda _: None, 0.0)
    unplug(home)
    writer = Writer(open_catalog(home.files.catalog), "catalog")
    try:
        asyncio.run(retention.purge_catalog(writer, clock))
        assert home.rows("SELECT count(*) FROM images") == [(8,)]
        (home.files.home / "unplugged").rename(home.files.images)
        asyncio.run(retention.purge_catalog(writer, clock))
    finally:
        writer.close()
    assert home.rows("SELECT count(*) FROM images") == [(0,)]
    assert home.images() == []


def test_an_unclean_end_and_an_absent_folder_queue_nothing_anew(home):
    home.change("INSERT INTO meta VALUES ('clean_end', '0'), ('alive_at', ?)", str(NOW))
    unplug(home)
    writer = Writer(open_catalog(home.files.catalog), "catalog")
    try:
        assert writer.submit(mark_running, NOW).result() is False
        store = FolderStore(home.files.images)

        def here() -> bool:
            return home.files.images.exists()

        assert recheck_recent(writer, store, home.clock, here) == 0
        assert home.rows("SELECT count(*) FROM images WHERE status = 'done'") == [(8,)]
        (home.files.home / "unplugged").rename(home.files.images)
        home.images()[0].unlink()
        assert recheck_recent(writer, store, home.clock, here) == 1
    finally:
        writer.close()


def test_a_kill_in_the_first_seconds_has_no_old_file_read_again(home):
    """Nobody had written down yet that the run was alive."""
    writer = Writer(open_catalog(home.files.catalog), "catalog")
    try:
        assert writer.submit(mark_running, NOW + 40 * DAY).result() is True
        home.images()[0].unlink()  # it would be noticed
        assert writer.submit(mark_running, NOW + 41 * DAY).result() is False
        store = FolderStore(home.files.images)
        assert recheck_recent(writer, store, home.clock, lambda: True) == 0
    finally:
        writer.close()


def test_doctor_and_notices_say_that_the_folder_is_away(home):
    settings = Settings()
    assert [one.verdict for one in check_image_folder(home.files, home.clock)] == ["ok"]
    unplug(home)
    (check,) = check_image_folder(home.files, home.clock)
    assert (check.verdict, "mount its disk" in check.message) == ("fail", True)
    found = read_alerts(home.files, settings, home.clock, SyncMemory())
    told = {one.kind: one.message for one in found}
    assert "the image folder of this home is not here: mount its disk" in told["images-away"]
    assert "disk-low" not in told


def test_a_backup_of_a_home_that_is_away_leaves_nothing_in_the_mount_point(tmp_path):
    home = KeptHome(tmp_path / "home")
    with pytest.raises(BackupFailed):
        make_backup(home.files, str(tmp_path / "target"), Keep(), home.clock, lambda *_: None)
    assert list(home.files.home.iterdir()) == []
    assert not (tmp_path / "target").exists()


# -- the home --------------------------------------------------------------------------------------


def test_a_home_is_known_by_its_mark_or_by_what_an_older_version_left(tmp_path):
    assert not home_is_here(tmp_path / "absent")
    assert not home_is_here(tmp_path)
    ensure_home_id(tmp_path)
    assert home_is_here(tmp_path)
    (tmp_path / HOME_MARK).unlink()
    (tmp_path / "furnisync.toml").touch()  # any command writes it, also into a mount point
    assert not home_is_here(tmp_path)
    (tmp_path / "etsy_data.db").touch()
    assert home_is_here(tmp_path)


def test_the_homes_id_never_changes(tmp_path):
    first = ensure_home_id(tmp_path)
    assert ensure_home_id(tmp_path) == first == ensure_home_id(tmp_path, "another")


@pytest.mark.parametrize("above", ["missing", "empty"])
def test_a_home_on_a_disk_that_is_not_mounted_is_not_made(tmp_path, above):
    parent = tmp_path / "disk"
    if above == "empty":
        parent.mkdir()
    with pytest.raises(NotHere, match=f"mkdir -p {parent / 'home'}"):
        prepare_home(HomeFiles(parent / "home"))
    assert not (parent / "home").exists()


def test_a_home_beside_other_things_is_made(tmp_path):
    (tmp_path / "something").touch()
    prepare_home(HomeFiles(tmp_path / "home"))
    assert (tmp_path / "home").is_dir()


def start_service(home, log) -> subprocess.Popen[bytes]:
    environment = {**clean_environment(), "FURNISYNC_HOME": str(home)}
    with log.open("wb") as file:
        return subprocess.Popen(
            furnisync("service", "run", "images"),
            env=environment, stdout=file, stderr=subprocess.STDOUT, cwd="/",
        )  # fmt: skip


def test_a_service_waits_for_its_home_and_goes_on_when_it_is_there(tmp_path):
    with SandboxProcess(**SMALL, qps=10**6, qpd=10**9, start_at=0) as sandbox:
        made, home, log = make_home(tmp_path / "made", sandbox), tmp_path / "home", tmp_path / "log"
        ensure_home_id(made)  # as `service install` does
        home.mkdir()  # the mount point
        service = start_service(home, log)
        try:
            until(lambda: b"waiting for the home" in log.read_bytes())
            assert service.poll() is None
            assert list(home.iterdir()) == []
            home.rmdir()
            made.rename(home)
            until(lambda: (home / ".images.lock").exists() and (home / "catalog.db").exists())
            until(lambda: "starts (pid" in (home / "logs" / "images.log").read_text())
            until(lambda: told_activity(home))
            home.rename(made)  # and it goes away in the middle
            assert service.wait(60) == 1, log.read_text()  # worth another start
            assert not home.exists()
            assert "is not here any more" in (made / "logs" / "images.log").read_text()
        finally:
            if service.poll() is None:
                os.kill(service.pid, signal.SIGKILL)
                service.wait()


def told_activity(home) -> bool:
    """Whether the run says what it is doing."""
    with closing(sqlite3.connect(f"file:{home / 'catalog.db'}?mode=ro", uri=True)) as catalog:
        if not catalog.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchall():
            return False
        return bool(catalog.execute("SELECT 1 FROM meta WHERE key = 'activity'").fetchall())


def test_a_run_by_hand_in_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "home").touch()
    with pytest.raises(ConfigError):
        prepare_home(HomeFiles(tmp_path / "home"))
