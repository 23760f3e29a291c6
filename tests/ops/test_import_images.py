"""Listings and image files, imported by the real command."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress

import pytest
from old_world import (
    FAILED,
    IMAGE_STATUS,
    ROOT,
    NewHome,
    OldFolder,
    digest,
    picture,
    placeholder,
)

from furnisync.identity import IMAGES_MARK

URL = "https://i.etsystatic.com/9/r/il/ab/{0}/il_570xN.{0}_cd.jpg"


@pytest.fixture
def old(tmp_path):
    return OldFolder(tmp_path / "old")


@pytest.fixture
def home(tmp_path):
    return NewHome(tmp_path / "home")


def mixed(old):
    """All forms in one file, some with their images."""
    old.metadata(
        {
            "101": 5001,
            "102": "404",
            "103": "no_images",
            "104": {"image_id": 5004, "shop_id": 9},
            "105": {"image_id": 5005, "shop_id": 9, "hex": "ab", "suffix": "cd"},
            "106": {
                "shop_id": 8,
                "when_made": "2020_2026",
                "images": [
                    {"image_id": 61, "hex": "ab", "suffix": "cd", "is_primary": False},
                    {"image_id": 62, "hex": "ab", "suffix": "cd", "is_primary": True},
                ],
            },
            "107": {"image_id": FAILED, "shop_id": 8},
            "nonsense": 3,
            "108": None,
        }
    )
    old.image("101.jpg", picture(101))
    old.image("105.jpg", picture(105, (170, 135)))
    old.image("106_61.jpg", picture(61))
    old.image("deep/er/106.jpg", picture(62, kind="PNG"))
    old.image("107.jpg", placeholder())
    old.image("300_77.jpg", picture(77))
    old.image("301.jpg", picture(301))
    old.image("104.jpg", b"<html>not here</html>")
    old.image("._101.jpg", b"what a Mac leaves")


def statuses(home):
    rows = home.rows("SELECT listing_id, image_id, status, size, file FROM images ORDER BY 1, 2")
    return {(row[0], row[1]): row[2:] for row in rows}


@pytest.mark.parametrize("adopt", ["place", "link", "copy", "move"])
def test_all_forms_and_their_files(old, home, adopt):
    mixed(old)
    before = old.contents()
    out = home.take(old.path, "--adopt", adopt)
    assert statuses(home) == {
        (101, 5001): ("done", "570xN", "101/101_5001.jpg"),
        (105, 5005): ("done", "170x135", "105/105_5005.jpg"),
        (106, 61): ("done", "570xN", "106/106_61.jpg"),
        (106, 62): ("done", "570xN", "106/106_62.png"),
        (300, 77): ("done", "570xN", "300/300_77.jpg"),
    }
    assert home.check_files() == 5
    assert "5  images adopted" in out
    listings = home.rows("SELECT listing_id, shop_id, state, reason FROM listings ORDER BY 1")
    assert listings == [
        (101, None, None, None),
        (102, None, "gone", "404"),
        (103, None, None, "no_images"),
        (104, 9, None, None),
        (105, 9, None, None),
        (106, 8, None, None),
        (107, 8, None, "download failed"),
        (300, None, None, None),
    ]
    assert [(row["what"], row["entry"].rpartition("/")[2]) for row in home.report()] == [
        ("broken entries", "nonsense"),
        ("broken entries", "108"),
        ("files refused", "104.jpg"),
        ("files without an image id", "301.jpg"),
    ]
    after = old.contents()
    moved = {"images/101.jpg", "images/105.jpg", "images/106_61.jpg", "images/300_77.jpg"}
    moved |= {"images/deep/er/106.jpg"}
    assert after == (
        {k: v for k, v in before.items() if k not in moved} if adopt == "move" else before
    )
    state = home.dump()
    home.take(old.path, "--adopt", adopt)
    assert home.dump() == state


def test_a_rehearsal_writes_nothing(old, home):
    mixed(old)
    before = old.contents()
    shown = home.take(old.path, "--adopt", "move", "--dry-run")
    assert old.contents() == before
    assert "5  images adopted" in shown
    assert {path.name for path in home.path.iterdir()} == {
        "furnisync.toml", ".images.lock", ".data.lock", "import_report.jsonl",
    }  # fmt: skip
    real = home.take(old.path, "--adopt", "move")
    numbers = [line for line in shown.splitlines() if line.strip()[:1].isdigit()]
    for line in numbers[:-1]:
        assert line.split() in [other.split() for other in real.splitlines()]


def test_a_rehearsal_of_moving_removes_nothing_that_is_linked(old, home):
    mixed(old)
    home.take(old.path)
    before = old.contents()
    home.take(old.path, "--adopt", "move", "--dry-run")
    assert old.contents() == before
    assert "5  files moved" in home.take(old.path, "--adopt", "move")
    assert home.check_files() == 5


@pytest.mark.parametrize("inside", ["old", "101"])
def test_the_only_name_of_a_file_is_never_removed(old, home, inside):
    """A symbolic link leads from the image folder to the very files that are to move."""
    old.metadata({"101": 5001})
    old.image("101_5001.jpg", picture(1))
    (home.path / "images").mkdir()
    (home.path / "images" / inside).symlink_to(old.images)
    home.take("--metadata", old.path / "image_metadata.json", "--images", home.path / "images")
    home.take(old.path, "--adopt", "move")
    assert (old.images / "101_5001.jpg").exists()
    assert home.check_files() == 1
    fresh = NewHome(home.path.parent / "fresh")
    (fresh.path / "images").mkdir()
    (fresh.path / "images" / inside).symlink_to(old.images)
    fresh.take(old.path, "--adopt", "move")
    assert fresh.check_files() == 1


def test_in_the_home_itself_files_stay_where_they_lie(home):
    old = OldFolder(home.path)
    mixed(old)
    before = {k: v for k, v in old.contents().items() if k.startswith("images/")}
    home.take(home.path)
    assert statuses(home)[(101, 5001)][2] == "101.jpg"
    assert statuses(home)[(106, 62)][2] == "deep/er/106.jpg"
    assert home.check_files() == 5
    after = {k: v for k, v in old.contents().items() if k.startswith("images/")}
    assert after.pop(f"images/{IMAGES_MARK}")  # the one file that is new there
    assert after == before
    assert (home.path / "older-tool" / "image_metadata.json").exists()
    state = home.dump()
    home.take(home.path)
    assert home.dump() == state
    home.take(home.path, "--adopt", "move")
    assert home.check_files() == 5


def test_image_status_and_tars(old, home):
    ids = {1: (1, 2), 2: (0, 3), 3: (0, -1), 4: (0, 0), 5: (0, 2)}
    rows = [
        {"listing_id": 200, "image_id": i, "is_primary": first, "url": URL.format(i),
         "download_done": done}
        for i, (first, done) in ids.items()
    ]  # fmt: skip
    old.tables(IMAGE_STATUS, image_status=rows)
    old.image("imagedownload/200_1.jpg", picture(1))
    for name, seed in (("200_2.jpg", 2), ("900_9.jpg", 9)):
        (old.path / name).write_bytes(picture(seed))
    tars = old.images / "tars"
    tars.mkdir()
    with tarfile.open(tars / "imageall_00000.tar", "w") as tar:
        for name in ("200_2.jpg", "900_9.jpg"):
            tar.add(old.path / name, arcname=name)
    (tars / "broken.tar").write_bytes(b"no tar at all" * 100)
    home.take(old.path)
    assert {key: value[0] for key, value in statuses(home).items()} == {
        (200, 1): "done", (200, 2): "done", (200, 3): "gone", (200, 4): "pending",
        (200, 5): "pending", (900, 9): "done",
    }  # fmt: skip
    assert home.rows("SELECT url FROM images WHERE image_id = 4") == [(URL.format(4),)]
    assert home.check_files() == 3
    assert [row["what"] for row in home.report()] == ["unreadable"]


def test_shops_that_were_read_whole(old, home):
    old.metadata({"104": {"image_id": 1, "shop_id": 9}})
    old.progress(synced_shops=[9, 8, "x"], exhausted=[0, 1], last_shop_refresh=1_778_000_000.5)
    home.take(old.path)
    assert home.rows("SELECT shop_id, synced_at FROM shops") == [
        (8, 1_778_000_000), (9, 1_778_000_000),
    ]  # fmt: skip


def test_metadata_cut_off_in_the_middle(old, home):
    path = old.metadata({str(i): {"image_id": i, "shop_id": 9} for i in range(1000, 3000)})
    path.write_bytes(path.read_bytes()[:40_000])
    ended = home.run("import", old.path)
    assert ended.returncode == 1
    assert "read only in part" in ended.stdout
    assert home.rows("SELECT count(*) > 900 FROM listings") == [(1,)]
    assert home.report()[-1]["what"] == "damaged sources"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "No source is named"),
        (("{0}/nowhere",), "is not a folder"),
        (("{0}",), "holds neither"),
        (("--metadata", "{0}/list.json"), "is not a JSON object"),
        (("--history", "{0}/list.json"), "cannot be read as a database"),
        (("--images", "{0}/list.json"), "is not a folder"),
        (("{0}", "--adopt", "steal"), "steal"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, home, arguments, words):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "list.json").write_text('["no object"]' * 50)
    ended = home.run("import", *(one.format(tmp_path / "x") for one in arguments))
    assert ended.returncode == 2, ended.stdout
    assert words in " ".join(ended.stdout.split())
    assert "Traceback" not in ended.stdout
    assert not (home.path / "catalog.db").exists() or not home.rows("SELECT * FROM listings")


def test_what_our_own_sync_holds_is_left_alone(old, home):
    old.metadata({"101": {"image_id": 1, "shop_id": 9}})
    old.image("101.jpg", picture(1))
    home.take(old.path)
    ours = home.path / "images" / "101" / "101_1.jpg"
    before = digest(ours)
    other = OldFolder(old.path.parent / "other")
    other.metadata({"101": {"image_id": 1, "shop_id": 7}})
    other.image("101.jpg", picture(2, (300, 200)))
    home.take(other.path, "--adopt", "move")
    assert digest(ours) == before
    assert (other.images / "101.jpg").exists()
    assert home.rows("SELECT shop_id FROM listings") == [(9,)]
    assert [row["what"] for row in home.report()] == ["files not needed"]


@pytest.mark.parametrize(
    "adopt",
    [
        pytest.param("place", marks=pytest.mark.slow),
        "move",
        pytest.param("copy", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_time_it_ends_the_same(tmp_path, adopt):
    def fill(folder):
        entries = {}
        for i in range(1000, 3000):
            entries[str(i)] = {"image_id": i * 10, "shop_id": i % 50 + 1}
            folder.image(f"{i}.jpg", picture(i, (60, 40)))
        folder.metadata(entries)

    old, home = OldFolder(tmp_path / "old"), NewHome(tmp_path / "home")
    fill(old)
    for try_ in range(8):
        process = subprocess.Popen(
            home.command("import", old.path, "--adopt", adopt),
            env=home.environment(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.4 + 0.1 * try_)
        process.send_signal(signal.SIGKILL)
        process.wait()
    home.take(old.path, "--adopt", adopt)
    assert home.rows("SELECT status, count(*) FROM images GROUP BY 1") == [("done", 2000)]
    assert home.check_files() == 2000
    left = sum(1 for _ in old.images.glob("*.jpg"))
    assert left == (0 if adopt == "move" else 2000)
    assert not (home.path / ".import").exists()
    counters = dict(home.rows("SELECT name, value FROM counters"))
    assert (counters["images.done"], counters["shops"]) == (2000, 50)


def test_a_full_disk_is_reported_and_the_next_run_continues(old, home):
    old.metadata({str(i): {"image_id": i, "shop_id": 9} for i in range(1000, 4000)})
    for i in range(1000, 4000):
        old.image(f"{i}.jpg", picture(i, (60, 40)))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))

    ended = home.run("import", old.path, "--adopt", "move", preexec_fn=limit)
    assert ended.returncode == 2, ended.stdout
    assert "run the same command again" in " ".join(ended.stdout.split())
    assert (
        len(list(old.images.iterdir())) + len(list((home.path / "images").rglob("*.jpg"))) >= 3000
    )
    home.take(old.path, "--adopt", "move")
    assert home.check_files() == 3000
    assert not list(old.images.iterdir())


def test_not_while_a_sync_runs(old, home):
    mixed(old)
    with (home.path / ".data.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = home.run("import", old.path)
    assert ended.returncode == 2
    assert "already runs" in ended.stdout


def test_a_link_to_a_folder_keeps_its_files(old, home, tmp_path):
    """Neither the first run nor a later one removes what a link points to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "103_7.jpg").write_bytes(picture(7))
    (old.images / "linked").symlink_to(elsewhere)
    for _ in range(2):
        home.take(old.path, "--adopt", "move")
        assert (elsewhere / "103_7.jpg").exists()
        assert home.check_files() == 1


def test_links_are_not_followed_in_circles(old, home):
    old.metadata({"101": 1})
    old.image("deep/101.jpg", picture(1))
    (old.images / "deep" / "again").symlink_to(old.images)
    (old.images / "102_5.jpg").symlink_to("/etc/hostname")
    home.take(old.path, "--adopt", "move")
    assert list(statuses(home)) == [(101, 1)]
    assert os.path.lexists(old.images / "102_5.jpg")


def many(folder, number):
    """So many entries, in an order that is none, with hex and suffix as most have."""
    entries = {
        str(10**9 + i * 7919 % 10**8): {"image_id": i + 1, "shop_id": i % 999 + 1, "hex": "ab12",
                                        "suffix": f"s{i}"}
        for i in range(number)
    }  # fmt: skip
    folder.metadata(entries)
    return folder


PEAK_OF = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
"""Starts a command and prints its peak; it is small, as a child begins with its parent's peak."""


def test_memory_does_not_grow_with_the_number_of_entries(tmp_path):
    peaks = {}
    for number in (5_000, 60_000):
        old = many(OldFolder(tmp_path / f"old{number}"), number)
        home = NewHome(tmp_path / f"home{number}")
        command = [sys.executable, "-c", PEAK_OF, *home.command("import", old.path)]
        done = subprocess.run(command, env=home.environment(), capture_output=True, check=True)
        assert home.rows("SELECT count(*) FROM images") == [(number,)]
        peaks[number] = int(done.stdout)
    # The databases' caches fill up to 64 MB; all entries as objects would be as much again.
    assert peaks[60_000] / peaks[5_000] < 1.5, peaks


def test_a_terminal_sees_how_far_it_is(tmp_path, home):
    import pty  # noqa: PLC0415 -- not on every system

    old = many(OldFolder(tmp_path / "old"), 3000)
    parent, child = pty.openpty()
    process = subprocess.Popen(
        home.command("import", old.path), stdout=child, stderr=child, cwd=ROOT,
        env={**home.environment(), "TERM": "xterm", "COLUMNS": "140"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    with suppress(OSError):  # the terminal is closed at its other end
        while piece := os.read(parent, 65536):
            shown += piece
    os.close(parent)
    assert process.wait() == 0
    for words in ("reading image_metadata.json", "listings of image_metadata.json", "100 %"):
        assert words.encode() in shown, words
