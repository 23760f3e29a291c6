"""Whole files under names of our own, or nothing."""

import contextlib
import hashlib
import os
import resource
import shutil
import subprocess
from io import BytesIO

import pytest
from PIL import Image
from support.faulty_cdn import JPEG

from furnisync.clock import SystemClock
from furnisync.download.downloader import download_batch
from furnisync.image_job import ImageReason, ReasonCode
from furnisync.store import NotStored
from furnisync.store.folder import FolderStore


def files(root):
    return {os.fspath(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_put_open_stat(store):
    name = store.put(1234567, 89, "jpg", b"body")
    assert name == "567/1234567_89.jpg"
    assert store.stat(name).size_bytes == 4
    with store.open(name) as file:
        assert file.read() == b"body"
    assert files(store.root) == {name: b"body"}


def test_short_ids_and_zero(store):
    assert store.put(7, 0, "png", b"x") == "007/7_0.png"
    assert store.put(0, 1, "gif", b"x") == "000/0_1.gif"


def test_nothing_there(store):
    assert store.stat("567/1_1.jpg") is None
    with pytest.raises(FileNotFoundError):
        store.open("567/1_1.jpg")


def test_put_again_replaces(store):
    store.put(5, 6, "jpg", b"old and longer")
    name = store.put(5, 6, "jpg", b"new")
    assert files(store.root) == {name: b"new"}


def test_new_format_replaces_the_old_one_and_only_that(store):
    for other in ("png", "webp", "gif"):
        store.put(5, 6, other, b"old")
    kept = store.put(5, 66, "png", b"another image")
    name = store.put(5, 6, "jpg", b"new")
    assert files(store.root) == {name: b"new", kept: b"another image"}


def test_old_format_stays_where_the_new_one_fails(store, monkeypatch):
    old = store.put(5, 6, "png", b"old")
    monkeypatch.setattr(os, "replace", fail_with(5))
    with pytest.raises(NotStored):
        store.put(5, 6, "jpg", b"new")
    assert files(store.root) == {old: b"old"}


def fail_with(number):
    def fail(*_args, **_more):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("extension", ["", "exe", "../jpg", "jpg/x", "JPG"])
def test_unknown_extension(store, extension):
    with pytest.raises(ValueError, match="no name"):
        store.put(1, 1, extension, b"x")


def test_negative_ids(store):
    with pytest.raises(ValueError, match="no name"):
        store.put(-1, 1, "jpg", b"x")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a\0b"])
def test_names_stay_in_the_root(store, name):
    with pytest.raises(ValueError, match="no name"):
        store.open(name)
    with pytest.raises(ValueError, match="no name"):
        store.stat(name)


def test_leftovers_go_with_the_first_put_and_not_before(store):
    partial = store.root / ".partial"
    partial.mkdir(parents=True)
    (partial / "123-0.part").write_bytes(b"half")
    reader = FolderStore(store.root)
    reader.stat("000/1_1.jpg")
    assert (partial / "123-0.part").exists()
    store.put(1, 1, "jpg", b"x")
    assert list(partial.iterdir()) == []


def test_folder_removed_meanwhile(store):
    store.put(1, 1, "jpg", b"x")
    shutil.rmtree(store.root)
    name = store.put(1001, 1, "jpg", b"y")
    assert files(store.root) == {name: b"y"}


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotStored) as caught:
        FolderStore(tmp_path / "file" / "images").put(1, 1, "jpg", b"x")
    assert caught.value.reason.code is ReasonCode.NOT_WRITTEN
    assert caught.value.reason.is_local


@contextlib.contextmanager
def file_size_limit(size_bytes):
    """A real failure in the midst of a write, without privileges: EFBIG."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_write_that_fails_midway_leaves_nothing(store):
    kept = store.put(1, 1, "jpg", b"small")
    with file_size_limit(100_000), pytest.raises(NotStored, match=r"^not written: File too large$"):
        store.put(1, 2, "jpg", bytes(200_000))
    assert files(store.root) == {kept: b"small"}
    assert store.put(1, 2, "jpg", bytes(200_000))


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    command = [mount, "-t", "tmpfs", "-o", "size=256k", "none", os.fspath(folder)]
    mounted = mount and umount and subprocess.run(command, check=False, capture_output=True)
    if not mounted or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run([umount, os.fspath(folder)], check=True)


def test_full_disk_and_room_again(tiny_disk, limits, jobs):
    store = FolderStore(tiny_disk / "images")
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    paths = ["/ok"] * 40
    outcomes = download_batch(jobs(*paths), store, limits(), SystemClock())
    full = [outcome for outcome in outcomes if outcome.result == "failed"]
    assert full
    assert {outcome.reason for outcome in full} == {ImageReason(ReasonCode.DISK_FULL)}
    assert all(outcome.reason.is_local for outcome in full)
    done = {outcome.file: JPEG for outcome in outcomes if outcome.result == "done"}
    assert len(done) == 40 - len(full)
    ballast.unlink()
    assert files(store.root) == done
    again = download_batch([outcome.job for outcome in full], store, limits(), SystemClock())
    assert {outcome.result for outcome in again} == {"done"}


# -- what is not ours --------------------------------------------------------------------------


def picture(colour, kind="JPEG"):
    body = BytesIO()
    Image.new("RGB", (60, 40), colour).save(body, kind)
    return body.getvalue()


RED, GREEN, BLUE = picture("red"), picture("green"), picture("blue")


def test_a_whole_picture_under_our_name_that_is_not_ours_is_kept(store, caplog):
    name = store.put(5, 6, "jpg", RED)
    (store.root / name).write_bytes(GREEN)
    (store.root / "005" / "5_6.png").write_bytes(png := picture("green", "PNG"))
    store.put(5, 6, "jpg", BLUE, held=hashlib.sha256(RED).digest())
    found = files(store.root)
    assert found.pop(name) == BLUE
    assert sorted(found.values()) == sorted([GREEN, png])
    assert all(".kept-" in one for one in found)
    assert caplog.text.count("kept as") == 2


def test_the_file_that_we_hold_and_a_broken_one_make_room(store):
    name = store.put(5, 6, "png", picture("red", "PNG"))
    held = hashlib.sha256((store.root / name).read_bytes()).digest()
    name = store.put(5, 6, "jpg", GREEN, held=held)
    (store.root / name).write_bytes(GREEN[:-20])
    store.put(5, 6, "jpg", BLUE)
    store.put(5, 6, "jpg", BLUE)
    assert files(store.root) == {name: BLUE}
