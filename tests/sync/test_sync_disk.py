"""A disk that fills up: said at the start, waited for while running, never fatal."""

from __future__ import annotations

import resource
from pathlib import Path

from support.sync_world import check_complete, file_of, served

RUNNER = str(Path(__file__).with_name("full_disk.py"))
GB = 10**9


def test_downloads_pause_while_the_disk_is_nearly_full(bent_home, bent, tmp_path):
    bent_home.configure(images={"min_free_mb": 1000})
    free = tmp_path / "free"
    free.write_text(str(GB // 2))
    run = bent_home.start(str(free), "images", "--fast", command=(RUNNER,))
    run.until(lambda: "downloads pause: only 500 MB free" in run.words)
    run.until(lambda: bent_home.number("SELECT count(*) FROM images") > 500)  # the rest goes on
    run.until(lambda: (bent_home.status()["activity"] or {}).get("downloads_paused"))
    assert "downloads pause" in bent_home.run("status").out
    assert bent.asked()["cdn"]["total"] == 0
    free.write_text(str(2 * GB))
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert "downloads continue" in ended.out
    check_complete(bent_home)


def test_paused_run_ends_by_a_signal(bent_home, tmp_path):
    bent_home.configure(images={"min_free_mb": 1000})
    free = tmp_path / "free"
    free.write_text("0")
    run = bent_home.start(str(free), "images", "--fast", command=(RUNNER,))
    run.until(lambda: "downloads pause" in run.words)
    run.process.terminate()
    assert run.wait(10).status == 0


def limit_files(pid: int, size: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_databases_that_cannot_grow_wait_until_they_can(bent_home, bent):
    """The limit on the size of a file stands for the disk that is full."""
    run = bent_home.start("--fast", limits={resource.RLIMIT_FSIZE: 300_000})
    run.until(lambda: "no room on its disk" in run.words)
    limit_files(run.pid, resource.RLIM_INFINITY)
    ended = run.wait()
    assert ended.status == 0, ended.out
    assert "Traceback" not in ended.out
    check_complete(bent_home)
    assert bent.asked()["total"] == 1 + 4 + 3  # nothing that was paid for was lost


def test_waiting_for_room_ends_by_a_signal_and_is_gone_on_with(bent_home, bent):
    run = bent_home.start("--fast", limits={resource.RLIMIT_FSIZE: 300_000})
    run.until(lambda: "no room on its disk" in run.words)
    run.process.terminate()
    ended = run.wait(10)
    assert "Traceback" not in ended.out
    assert bent_home.sync("--fast").status == 0
    check_complete(bent_home)


def test_images_that_cannot_be_written_pause_and_are_not_counted_as_failed(bent_home, bent):
    image = served(bent)[0]
    folder = bent_home.path / Path(file_of(image)).parent
    folder.parent.mkdir()
    folder.touch()  # a file where a folder is due
    run = bent_home.start("--fast")
    run.until(lambda: "cannot be written (" in run.words)
    folder.unlink()
    ended = run.wait()
    assert ended.status == 0, ended.out
    check_complete(bent_home)
    assert "failed" not in bent_home.status()["images"]
