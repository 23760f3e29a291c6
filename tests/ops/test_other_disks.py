"""Homes on disks that lack what Unix file systems have: locks, hard links, permissions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.sync_world import Home, check_complete, small_sandbox

from furnisync.config import HomeFiles
from furnisync.errors import AlreadyRunning, LocksUnsupported
from furnisync.history.fields.pseudonyms import read_buyers
from furnisync.lockfile import exclusive, holder, kind_of_locks, single_instance
from furnisync.ops.checks.doctor_disk import check_file_system, file_system_of

NO_FLOCK = str(Path(__file__).resolve().parents[1] / "support" / "no_flock.py")
HOLDER = """
import sys
sys.argv.insert(1, "flock")
import no_flock
from pathlib import Path
from furnisync.lockfile import holder, single_instance
path = Path(sys.argv[1])
try:
    with single_instance(path, "image sync"):
        print("holds", holder(path), flush=True)
        sys.stdin.readline()
except Exception as error:
    print(error, flush=True)
"""


@pytest.fixture(scope="module")
def sandbox():
    with small_sandbox(shops=3, listings=20) as found:
        yield found


@pytest.fixture
def home(tmp_path, sandbox):
    return Home(tmp_path / "home", sandbox)


def without(locks: str, home: Home, *arguments: str):
    return home.start(*arguments, command=(NO_FLOCK, locks))


# -- locks -------------------------------------------------------------------------------------


def lacking(monkeypatch, *names):
    def refuse(*_):
        raise OSError(95, os.strerror(95))

    for name in names:
        monkeypatch.setattr(f"furnisync.lockfile.fcntl.{name}", refuse)


def start_holder(path):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={
            **os.environ,
            "PYTHONPATH": f"{Path(NO_FLOCK).parent}{os.pathsep}{Path(NO_FLOCK).parents[2]}",
        },
    )  # fmt: skip


def test_posix_locks_keep_the_second_out_and_die_with_their_holder(tmp_path, monkeypatch):
    lacking(monkeypatch, "flock")
    path = tmp_path / ".images.lock"
    first = start_holder(path)
    # It has asked for the holder itself, which must not free its own lock.
    assert first.stdout.readline() == f"holds {first.pid}\n"
    assert holder(path) == first.pid
    with (
        pytest.raises(AlreadyRunning, match=rf"already runs on .* \(pid {first.pid}\): stop it"),
        single_instance(path, "image sync"),
    ):
        pass
    first.kill()
    first.wait()
    assert holder(path) is None
    with single_instance(path, "image sync"):
        second = start_holder(path)
        assert f"already runs on {tmp_path} (pid {os.getpid()})" in second.communicate()[0]
        assert holder(path) == os.getpid()
    assert kind_of_locks(path) == "POSIX"


def test_one_process_does_not_take_its_own_lock_twice(tmp_path, monkeypatch):
    lacking(monkeypatch, "flock")
    path = tmp_path / ".images.lock"
    with single_instance(path, "image sync"):
        with pytest.raises(AlreadyRunning), single_instance(path, "image sync"):
            pass
        third = start_holder(path)
        assert "already runs" in third.communicate()[0]
    with single_instance(path, "image sync"):
        pass


def test_threads_of_one_process_take_turns(tmp_path, monkeypatch):
    lacking(monkeypatch, "flock")
    inside, most = [], []

    def work():
        for _ in range(50):
            with exclusive(tmp_path / "some.lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(most), max(most)) == (200, 1)


def test_two_syncs_at_the_same_instant_on_a_disk_without_flock(home):
    runs = [without("flock", home, "images", "--slow") for _ in range(2)]
    ended = None
    while ended is None:
        ended = next((one for one in runs if one.process.poll() is not None), None)
    other = next(one for one in runs if one is not ended)
    told = ended.wait()
    assert told.status == 2, told.out
    assert f"already runs on {home.path} (pid {other.pid})" in told.out
    assert without("flock", home, "status").wait().status == 0
    third = without("flock", home, "images", "--fast").wait()
    assert (third.status, f"(pid {other.pid})" in third.out) == (2, True)
    other.process.terminate()
    assert other.wait().status == 0
    assert without("flock", home, "images", "--fast").wait().status == 0
    check_complete(home)


def test_a_disk_without_any_locks_is_told_in_one_sentence(home):
    for command in (("images", "--fast"), ("data", "--fast")):
        ended = without("flock,lockf", home, *command).wait()
        assert ended.status == 2, ended.out
        assert "its file system has no file locks" in ended.out or command[0] == "data"
        assert "Traceback" not in ended.out
    assert not (home.path / "catalog.db").exists()
    ended = without("flock,lockf", home, "doctor", "--json").wait()
    checks = {one["name"]: one for one in json.loads(ended.out.splitlines()[-1])}
    assert checks["file locks"]["verdict"] == "fail"
    assert "local disk" in checks["file locks"]["remedy"]
    assert checks["image sync"]["verdict"] == "fail"
    ended = without("flock", home, "doctor", "--json").wait()
    checks = {one["name"]: one for one in json.loads(ended.out.splitlines()[-1])}
    assert checks["file locks"]["message"] == "work (POSIX)"


def test_without_locks_nothing_is_taken_for_free(tmp_path, monkeypatch):
    lacking(monkeypatch, "flock", "lockf")
    path = tmp_path / ".images.lock"
    with (
        pytest.raises(LocksUnsupported, match="move the home to a local disk"),
        single_instance(path, "image sync"),
    ):
        pass
    with pytest.raises(LocksUnsupported):
        holder(path)
    with pytest.raises(LocksUnsupported), exclusive(path):
        pass


# -- file systems ------------------------------------------------------------------------------

LINUX = """\
/dev/sda1 on / type ext4 (rw,relatime)
tmpfs on /srv type tmpfs (rw)
box:/export on /srv/far type nfs4 (rw,vers=4.2)
/dev/sdb1 on /srv/far/near (odd) type exfat (rw)
"""
MAC = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//me@box/share on /srv/far (smbfs, nodev, nosuid, mounted by me)
/dev/disk5s1 on /srv/far/near (msdos, local)
"""


@pytest.mark.parametrize(
    ("told", "far", "near", "odd"),
    [(LINUX, "nfs4", "nfs4", "exfat"), (MAC, "smbfs", "msdos", "smbfs")],
    ids=["Linux", "Mac"],
)
def test_a_network_share_is_known_by_its_mount(tmp_path, told, far, near, odd):
    def ask(*_):
        return subprocess.CompletedProcess([], 0, told, "")

    assert file_system_of(Path("/srv/far/home"), ask) == far
    assert file_system_of(Path("/srv/far/near"), ask) == near
    assert file_system_of(Path("/srv/far/near (odd)/home"), ask) == odd
    assert file_system_of(Path("/home"), ask) in {"ext4", "apfs"}
    checks = {one.name: one for one in check_file_system(HomeFiles(Path("/srv/far/home")), ask)}
    assert checks["file system"].verdict == "warn"
    assert "one computer only" in checks["file system"].remedy
    local = {one.name: one for one in check_file_system(HomeFiles(tmp_path), ask)}
    assert local["file system"].verdict == "ok"


@pytest.fixture
def exfat(tmp_path):
    """A real exFAT disk: no hard links, no symbolic links, no permissions."""
    programs = ("mkfs.exfat", "mount.exfat-fuse", "losetup", "umount")
    missing = [
        one for one in programs if shutil.which(one, path="/usr/sbin:/sbin:/usr/bin") is None
    ]
    if missing or os.getuid() != 0:
        pytest.skip(f"no exFAT can be mounted here: {', '.join(missing) or 'needs root'}")

    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no exFAT can be mounted here: {command[0]}: {done.stderr}")
        return done.stdout.strip()

    image, at = tmp_path / "disk.img", tmp_path / "disk"
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    with ExitStack() as stack:
        run("mkfs.exfat", str(image))
        device = run("losetup", "--find", "--show", str(image))
        stack.callback(run, "losetup", "--detach", device)
        run("mount.exfat-fuse", device, str(at))
        stack.callback(run, "umount", str(at))
        (at / "probe").touch()
        with pytest.raises(OSError, match="not permitted"):
            os.link(at / "probe", at / "second")
        (at / "probe").unlink()
        yield at


def test_both_syncs_keep_a_home_on_exfat(exfat, sandbox):
    home = Home(exfat / "home", sandbox, data={"buyer_user_id": "hash"})
    assert home.sync("--fast").status == 0
    ended = home.run("data", "--fast")
    assert ended.status == 0, ended.out
    check_complete(home)
    assert home.run("verify", "--sha256").status == 0
    assert home.run("backup").status == 0
    [made] = (home.path / "backups").glob("furnisync-*")
    assert home.run("restore", str(made)).status == 0
    kept = list(home.path.glob("*before-restore*"))
    assert len(kept) >= 2, kept
    ended = home.run("doctor", "--json")
    checks = {one["name"]: one for one in json.loads(ended.out.splitlines()[-1])}
    assert checks["file locks"]["verdict"] == "ok"
    assert checks["file system"]["message"] == "fuseblk"
    assert home.sync("--fast").status == 0


def test_a_buyers_key_needs_no_hard_link(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "link")
    path = tmp_path / ".buyer_key"
    first = read_buyers(path, "hash")
    assert first.key == path.read_bytes()
    assert read_buyers(path, "hash").key == first.key
    assert path.stat().st_mode & 0o077 == 0
    assert not path.with_name(".buyer_key.part").exists()
