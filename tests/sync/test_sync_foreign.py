"""Real syncs beside files that another program left, and on databases of older versions."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from support.processes import until
from support.sync_world import Home, check_complete, digest, digests, no_questions, served

from furnisync.catalog.schema import APPLICATION_ID, MIGRATIONS
from furnisync.sqlite.database import open_database

OLD = {"123456": {"image_id": 99, "shop_id": 7, "hex": "abc", "suffix": "il"}, "123457": "404"}
LISTINGS = "SELECT count(*) FROM listings"


def put_old(home: Home) -> bytes:
    content = json.dumps(OLD, indent=1).encode()
    (home.path / "image_metadata.json").write_bytes(content)
    return content


def kept(home: Home) -> list[bytes]:
    return [one.read_bytes() for one in home.path.glob("image_metadata.json.kept-*")]


def plain(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("secret", [None, "wrongsecret7"])
@pytest.mark.parametrize("mode", ["--fast", "--slow"])
def test_an_older_tools_metadata_stops_a_first_run_before_any_call(home, steady, secret, mode):
    old = put_old(home)
    if secret is not None:
        home.env["ETSY_SHARED_SECRET"] = secret
    with no_questions(steady):
        ended = home.script(mode).wait()
    assert ended.status == 2, ended.out
    assert "Traceback" not in ended.out
    assert f"run `furnisync import {home.path}` first" in plain(ended.out)
    assert (home.path / "image_metadata.json").read_bytes() == old
    assert kept(home) == []


def test_after_the_import_it_is_kept_once_and_replaced(home):
    old = put_old(home)
    assert home.run("import", str(home.path)).status == 0
    assert home.sync("--fast").status == 0
    assert "123456" in home.metadata()
    assert (home.path / "older-tool" / "image_metadata.json").read_bytes() == old
    assert kept(home) == []


def test_a_foreign_or_edited_file_beside_a_full_catalog_is_kept_beside(home):
    assert home.sync("--fast").status == 0
    check_complete(home)
    old = put_old(home)
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    assert "it is kept as image_metadata.json.kept-" in plain(ended.out)
    check_complete(home)
    assert kept(home) == [old]
    ended = home.sync("--fast")
    assert "kept as" not in ended.out
    edited = json.dumps(home.metadata(), indent=2).encode()
    (home.path / "image_metadata.json").write_bytes(edited)
    assert home.sync("--fast").status == 0
    assert sorted(kept(home)) == sorted([old, edited])


def test_a_lost_catalog_does_not_cost_what_our_own_file_tells(home):
    assert home.sync("--fast").status == 0
    before = (home.path / "image_metadata.json").read_bytes()
    for path in home.path.glob("catalog.db*"):
        path.unlink()
    ended = home.sync("--fast", "--limit", "5")
    assert ended.status == 0, ended.out
    assert "has listings that the catalog no longer has" in plain(ended.out)
    assert kept(home) == [before]
    (name,) = home.path.glob("image_metadata.json.kept-*")
    known = home.number(LISTINGS)
    taken = home.run("import", "--metadata", str(name))
    assert taken.status == 0, taken.out
    assert home.number(LISTINGS) == len(json.loads(before)) > known


def test_a_restored_catalog_and_a_moved_home_keep_nothing(home, tmp_path, steady):
    assert home.sync("--fast").status == 0
    assert home.run("backup").status == 0
    assert home.sync("--fast").status == 0
    assert home.run("restore", str(home.path / "backups")).status == 0
    assert home.sync("--fast").status == 0
    assert kept(home) == []
    shutil.copytree(home.path, tmp_path / "disk", copy_function=shutil.copyfile)
    moved = Home(tmp_path / "disk", steady)
    assert moved.sync("--fast").status == 0
    check_complete(moved)
    assert kept(moved) == []


def test_an_empty_file_of_another_program_is_nothing_to_lose(home):
    (home.path / "image_metadata.json").write_text("{ }\n")
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    check_complete(home)


def test_a_catalog_of_an_older_version_is_migrated_after_a_copy(home):
    version = len(MIGRATIONS) - 1
    path = home.path / "catalog.db"
    with closing(open_database(path, APPLICATION_ID, MIGRATIONS[:version])) as old:
        old.execute("INSERT INTO shops VALUES (7, 1, NULL, NULL)")
    looked = home.run("status")
    assert looked.status == 2
    assert "`furnisync service restart`" in plain(looked.out)
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    assert f"catalog.db.v{version}-backup" in ended.out
    backup = home.path / f"catalog.db.v{version}-backup"
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("PRAGMA user_version").fetchone()[0] == version
        assert copy.execute("SELECT shop_id FROM shops").fetchall() == [(7,)]
    assert home.rows("PRAGMA user_version") == [(version + 1,)]


HOLD = """
import pathlib, sys, time
from furnisync.catalog.schema import APPLICATION_ID, MIGRATIONS
from furnisync.sqlite.database import open_database
from furnisync.lockfile import single_instance
home = pathlib.Path(sys.argv[1])
with single_instance(home / ".images.lock", "image sync"):
    open_database(home / "catalog.db", APPLICATION_ID, MIGRATIONS[:-1]).close()
    print("ready", flush=True)
    time.sleep(600)
"""


def test_nothing_migrates_while_an_older_program_runs(home):
    """An image service that an update left running, with the older schema."""
    running = home.start(str(home.path), command=("-c", HOLD))
    running.until(lambda: "ready" in running.words)
    (home.path / "backups").mkdir()
    for command in (
        ("images", "--fast"),
        ("import", "--images", str(home.path)),
        ("restore", str(home.path / "backups")),
        ("verify", "--repair"),
    ):
        ended = home.run(*command)
        assert ended.status == 2, (command, ended.out)
        assert "`furnisync service stop`" in plain(ended.out), (command, ended.out)
        assert home.rows("PRAGMA user_version") == [(len(MIGRATIONS) - 1,)]
    assert list(home.path.glob("*-backup*")) == []
    running.kill()
    until(lambda: running.process.poll() is not None)
    assert home.sync("--fast").status == 0
    assert home.rows("PRAGMA user_version") == [(len(MIGRATIONS),)]


def test_a_larger_size_takes_the_place_of_our_files_and_of_no_edited_picture(home, steady):
    home.configure(images={"size": "170x135"})
    assert home.sync("--fast").status == 0
    path = min(home.files().values())
    edited = next(one for one in home.files().values() if one.suffix == path.suffix and one != path)
    mine = edited.read_bytes()
    path.write_bytes(mine)  # another whole picture
    home.configure(images={"size": "570xN"})
    ended = home.sync("--fast")
    assert ended.status == 0, ended.out
    (kept_file,) = home.path.glob("images/*/*.kept-*")
    assert kept_file.name.startswith(path.name)
    assert kept_file.read_bytes() == mine
    kept_file.unlink()
    assert {name: digest(one) for name, one in home.files().items()} == digests(served(steady))
