"""Backups and restores by the real commands: beside running syncs, killed, without room."""

import fcntl
import json
import resource
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from backup_world import BackupHome

from furnisync.catalog.listings import Listed, add_listed
from furnisync.catalog.schema import open_catalog
from furnisync.sandbox.process import SandboxProcess
from furnisync.sqlite.database import transaction

DAY = 86_400


@pytest.fixture
def home(tmp_path):
    found = BackupHome(tmp_path / "home")
    found.fill(1, 500)
    return found


def plain(text):
    return " ".join(text.split())


def test_there_and_back(home):
    out = home.backup()
    assert "checked" in out
    before = home.dump()
    home.fill(1000, 300)
    after = home.dump()
    status, out = home.run("restore", home.path / "backups")
    assert status == 0, out
    assert home.dump() == before
    kept = sorted(path.name for path in home.path.glob("*before-restore*.db"))
    assert home.dump(*kept) == after
    assert not list(home.path.glob(".restore*"))
    for path in (
        home.path / "catalog.db",
        home.path / "etsy_data.db",
        *home.backups()[0].iterdir(),
    ):
        assert path.stat().st_mode & 0o077 == 0


def test_a_backup_is_named_to_restore_and_may_be_copied_about(home, tmp_path):
    home.backup(offset_s=0)
    before = home.dump()
    home.fill(1000, 300)
    home.backup(offset_s=60)
    older, _ = home.backups()
    shutil.copytree(older, tmp_path / "stick" / older.name)
    other = BackupHome(tmp_path / "other")
    status, out = other.run("restore", f"{tmp_path / 'stick' / older.name}/")
    assert status == 0, out
    assert other.dump() == before


def test_beside_both_running_syncs(tmp_path):
    with SandboxProcess(shops=30, listings=900, images_mean=1, image_bytes=2000, pictures=4,
                        qps=60, qpd=10**6, latency_ms=20) as sandbox:  # fmt: skip
        home = BackupHome(tmp_path / "home", sandbox.env)
        (home.path / "furnisync.toml").write_text("[images]\nmin_free_mb = 0\n")
        images = home.start("images", "--fast")
        end = time.monotonic() + 60
        while not (home.path / "catalog.db").exists() or not _has_shops(home):
            assert time.monotonic() < end
            time.sleep(0.05)
        data = home.start("data", "--fast")
        number = 0
        while images.poll() is None or data.poll() is None:
            home.backup("--keep-days", 30, offset_s=number * 2)
            number += 1
            assert time.monotonic() < end + 120
        for sync in (images, data):
            out, _ = sync.communicate(timeout=60)
            assert sync.returncode == 0, out
    assert number >= 2
    for backup in home.backups():
        other = BackupHome(tmp_path / backup.name)
        status, out = other.run("restore", backup)
        assert status == 0, out
        if (other.path / "etsy_data.db").exists():
            _check_history(other)


def _has_shops(home):
    with closing(sqlite3.connect(home.path / "catalog.db")) as catalog:
        try:
            return catalog.execute("SELECT count(*) FROM shops").fetchone()[0]
        except sqlite3.OperationalError:
            return False


def _check_history(home):
    """What one transaction wrote is there whole: a synced shop has the rows of its sync."""
    with closing(sqlite3.connect(home.path / "etsy_data.db")) as history:
        synced = history.execute(
            "SELECT shop_id, last_sync, listings_found FROM sync_state WHERE status = 'ok'"
        ).fetchall()
        for shop_id, last_sync, found in synced:
            count = history.execute(
                "SELECT count(DISTINCT listing_id) FROM listings_dynamic d"
                " JOIN listings l USING (listing_id)"
                " WHERE l.shop_id = ? AND d.snapshot_timestamp >= ? AND d.state = 'active'",
                (shop_id, last_sync),
            ).fetchone()[0]
            assert count == found


def test_a_writer_is_not_held_up_and_does_not_hold_up(tmp_path):
    home = BackupHome(tmp_path / "home")
    home.fill(1, 60_000)
    backup = home.start("backup")
    longest, commits = 0.0, 0
    with closing(open_catalog(home.path / "catalog.db")) as catalog:
        while backup.poll() is None:
            began = time.monotonic()
            with transaction(catalog):
                add_listed(catalog, [Listed(10**6 + commits, 1, 967, 1.0, 5)], 7)
            longest = max(longest, time.monotonic() - began)
            commits += 1
    assert backup.returncode == 0
    assert commits > 20
    assert longest < 2


def test_killed_at_any_instant(tmp_path):
    home = BackupHome(tmp_path / "home")
    home.fill(1, 30_000)
    before = home.dump()
    whole = 0
    for try_ in range(10):
        process = home.start("backup", offset_s=try_ * 60)
        time.sleep(0.25 + try_ * 0.12)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for backup in home.backups():
            assert json.loads((backup / "backup.json").read_bytes())["copies"]
        whole = len(home.backups())
    home.backup(offset_s=1000)
    assert len(home.backups()) == whole + 1
    assert not list((home.path / "backups").glob(".*.part"))
    assert home.dump() == before


def test_a_restore_that_is_killed_leaves_the_old_or_the_new(tmp_path):
    home = BackupHome(tmp_path / "home")
    home.fill(1, 10_000)
    home.backup()
    backed_up = home.dump()
    home.fill(10**6, 100)
    newer = home.dump()
    for try_ in range(8):
        process = home.start("restore", home.path / "backups", offset_s=try_ * 60)
        time.sleep(0.3 + try_ * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for part in home.dump().items():
            assert part in backed_up.items() or part in newer.items()
    status, out = home.run("restore", home.path / "backups", offset_s=1000)
    assert status == 0, out
    assert home.dump() == backed_up


def test_without_room(home):
    home.backup()
    [first] = home.backups()

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

    status, out = home.run("backup", offset_s=60, preexec_fn=limit)
    assert status == 2
    assert "failed" in out
    assert "earlier backups are untouched" in plain(out)
    assert home.backups() == [first]
    assert not list((home.path / "backups").glob(".*.part"))
    note = json.loads((home.path / ".backup.json").read_bytes())
    assert (note["ok"], note["last_good"] is None) == (False, False)
    home.backup(offset_s=120)
    assert json.loads((home.path / ".backup.json").read_bytes())["ok"]


def test_old_ones_go_by_the_rule_and_nothing_else(home):
    stranger = home.path / "backups" / "furnisync-20200101T000000Z"
    stranger.mkdir(parents=True)
    (stranger / "thesis.txt").write_text("mine")
    for day in range(6):
        home.backup("--keep-days", 3, "--keep-weeks", 0, offset_s=day * DAY)
        if day == 0:
            (home.backups()[-1] / "notes.txt").write_text("mine too")
    named = home.backups()
    assert (stranger / "thesis.txt").exists()
    assert [(path / "backup.json").exists() for path in named] == [False, False, True, True, True]
    assert [path.name for path in named[1].iterdir()] == ["notes.txt"]


def test_backups_of_another_home_are_not_counted(home, tmp_path):
    other = BackupHome(tmp_path / "other")
    other.fill(1, 5)
    place = tmp_path / "both"
    home.backup(place)
    other.backup(place, "--keep-days", 1, "--keep-weeks", 0, offset_s=30 * DAY)
    assert len(list(place.glob("furnisync-*"))) == 2
    status, out = home.run("restore", place)
    assert status == 2
    assert "several homes" in out


@pytest.mark.parametrize("job", ["images", "data", "backup"])
def test_no_restore_while_something_runs(home, job):
    home.backup()
    before = home.dump()
    with (home.path / f".{job}.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, out = home.run("restore", home.path / "backups")
    assert status == 2
    assert "already runs" in out
    assert home.dump() == before


def spoil_a_byte(backup):
    path = backup / "etsy_data.db.gz"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)


def cut_off(backup):
    path = backup / "catalog.db.gz"
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_file(backup):
    (backup / "catalog.db.gz").unlink()


def spoil_the_manifest(backup):
    (backup / "backup.json").write_text("{")


def claim_other_rows(backup):
    path = backup / "backup.json"
    told = json.loads(path.read_bytes())
    told["copies"][0]["rows"]["listings"] += 1
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    "harm", [spoil_a_byte, cut_off, lose_a_file, spoil_the_manifest, claim_other_rows]
)
def test_a_damaged_backup_is_refused_and_touches_nothing(home, harm):
    home.backup()
    before = home.dump()
    [backup] = home.backups()
    harm(backup)
    status, out = home.run("restore", backup)
    assert status == 2, out
    assert "Traceback" not in out
    assert home.dump() == before
    assert not list(home.path.glob("*before-restore*"))


def test_a_damaged_database_is_not_backed_up_but_replaced(home):
    home.backup()
    before = home.dump()
    path = home.path / "catalog.db"
    body = bytearray(path.read_bytes())
    body[4096 * 3 : 4096 * 6] = b"\xa5" * (4096 * 3)
    path.write_bytes(body)
    status, out = home.run("backup", offset_s=60)
    assert status == 2, out
    assert len(home.backups()) == 1
    status, out = home.run("restore", home.path / "backups")
    assert status == 0, out
    assert home.dump() == before
    [kept] = home.path.glob("catalog.before-restore*.db")
    assert kept.read_bytes() == bytes(body)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("restore", "{0}/nowhere"), "is not a folder"),
        (("restore", "{0}"), "holds no backup"),
        (("backup", "{0}/file/below"), "cannot be kept"),
        (("backup", "{0}/unplugged/disk"), "connect its disk"),
        (("backup", "--keep-days", "0"), "keep-days"),
        (("backup", "nosuch://place"), "nosuch://place"),
    ],
)
def test_what_cannot_be_is_one_sentence(home, tmp_path, arguments, words):
    (tmp_path / "file").write_text("")
    status, out = home.run(*(one.format(tmp_path) for one in arguments))
    assert status == 2, out
    assert words in plain(out)
    assert "Traceback" not in out
    assert [path.name for path in tmp_path.iterdir() if path != home.path] == ["file"]


def test_nothing_to_back_up(tmp_path):
    home = BackupHome(tmp_path / "home")
    status, out = home.run("backup")
    assert status == 2
    assert "holds no data of furnisync" in plain(out)
    assert not home.path.exists() or not list(home.path.iterdir())
    (home.path / "furnisync.toml").touch()
    status, out = home.run("backup")
    assert status == 2
    assert "nothing to back up" in plain(out)


def test_a_database_that_is_just_being_made_is_left_for_the_next_backup(home):
    """A sync makes all tables in one transaction; before that the file has none."""
    history = home.path / "etsy_data.db"
    history.unlink()
    with closing(sqlite3.connect(history)) as empty:
        empty.execute("PRAGMA journal_mode = WAL")
        home.backup()
    (backup,) = home.backups()
    copies = json.loads((backup / "backup.json").read_bytes())["copies"]
    assert "catalog" in {one["role"] for one in copies}
    assert "history" not in {one["role"] for one in copies}
    other = BackupHome(home.path.parent / "other")
    status, out = other.run("restore", backup)
    assert status == 0, out


def test_to_a_url_and_back(home, tmp_path):
    pytest.importorskip("fsspec")
    url = f"local://{tmp_path / 'far'}"
    home.backup(url)
    before = home.dump()
    half = tmp_path / "far" / "furnisync-20200101T000000Z"
    half.mkdir()
    (half / "catalog.db.gz").write_text("an upload that was broken off")
    home.fill(1000, 10)
    home.backup(url, "--keep-days", 1, "--keep-weeks", 0, offset_s=5 * DAY)
    assert len(list((tmp_path / "far").iterdir())) == 1
    assert not (home.path / ".backup").exists()
    after = home.dump()
    home.fill(2000, 10)
    status, out = home.run("restore", url)
    assert status == 0, out
    assert home.dump() == after != before
