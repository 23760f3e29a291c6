"""Files that we write: whole, known as ours, and never over what is not ours."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from furnisync import durable, owned
from furnisync.errors import ConfigError


def write(path, content):
    with owned.replacing(path) as file:
        file.write(content)


def kept_of(path):
    return sorted(path.parent.glob(f"{path.name}.kept-*"))


def test_what_we_wrote_last_is_replaced_and_nothing_is_kept(tmp_path):
    path = tmp_path / "some.json"
    for content in (b"one", b"two", b"three"):
        write(path, content)
        assert owned.is_ours(path)
    assert path.read_bytes() == b"three"
    assert kept_of(path) == []


def edited(path):
    path.write_bytes(b"edited by somebody")


def edited_to_the_same_length(path):
    path.write_bytes(b"2ne")


def replaced(path):
    (path.parent / "other").write_bytes(b"of another program")
    (path.parent / "other").replace(path)


def without_note(path):
    owned._note(path).unlink()


def with_a_broken_note(path):
    owned._note(path).write_bytes(b"nonsense")


@pytest.mark.parametrize(
    "change", [edited, edited_to_the_same_length, replaced, without_note, with_a_broken_note]
)
def test_what_is_not_ours_is_kept_beside_and_that_is_told(tmp_path, change, caplog):
    path = tmp_path / "some.json"
    write(path, b"one")
    change(path)
    foreign = path.read_bytes()
    assert not owned.is_ours(path)
    write(path, b"two")
    (kept,) = kept_of(path)
    assert (path.read_bytes(), kept.read_bytes()) == (b"two", foreign)
    assert kept.name in caplog.text
    write(path, b"three")
    assert kept_of(path) == [kept], "ours again"


def test_a_kept_file_is_never_overwritten_either(tmp_path):
    path = tmp_path / "some.json"
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        os.utime(path, (1_779_000_000, 1_779_000_000))
        write(path, b"ours")
    names = ["", "-2", "-3"]
    assert [one.name for one in kept_of(path)] == [
        f"some.json.kept-20260517T064000Z{number}" for number in names
    ]
    assert {one.read_bytes() for one in kept_of(path)} == {b"first", b"second", b"third"}


def test_a_file_that_moved_to_another_disk_is_still_ours(tmp_path):
    path = tmp_path / "home" / "some.json"
    path.parent.mkdir()
    write(path, b"one")
    shutil.copytree(path.parent, tmp_path / "disk", copy_function=shutil.copyfile)
    moved = tmp_path / "disk" / "some.json"
    os.utime(moved, (5, 5))
    assert owned.is_ours(moved)
    write(moved, b"two")
    assert kept_of(moved) == []


def test_a_link_to_another_programs_file_leaves_that_file_alone(tmp_path):
    theirs = tmp_path / "theirs.json"
    theirs.write_bytes(b"of another program")
    path = tmp_path / "some.json"
    path.symlink_to(theirs)
    write(path, b"ours")
    assert theirs.read_bytes() == b"of another program"
    assert path.read_bytes() == b"ours"
    assert not path.is_symlink()


@pytest.mark.processes
@pytest.mark.parametrize("instant", ["before the note", "after the note", "after the rename"])
def test_a_kill_at_any_instant_leaves_a_file_that_is_ours(tmp_path, instant):
    path = tmp_path / "some.json"
    write(path, b"one")
    program = """
        import os, pathlib, signal, sys
        from furnisync import durable, owned
        put = durable.put
        def die(part, path):
            noted = path.name.endswith(".written")
            if sys.argv[2] == "before the note" and noted:
                os.kill(os.getpid(), signal.SIGKILL)
            if sys.argv[2] == "after the note" and not noted:
                os.kill(os.getpid(), signal.SIGKILL)
            put(part, path)
            if not noted:
                os.kill(os.getpid(), signal.SIGKILL)
        durable.put = die
        with owned.replacing(pathlib.Path(sys.argv[1])) as file:
            file.write(b"another one")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), path, instant], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    expected = b"another one" if instant == "after the rename" else b"one"
    assert path.read_bytes() == expected
    assert owned.is_ours(path)
    write(path, b"three")
    assert kept_of(path) == []


def test_a_database_that_was_changed_is_kept_with_its_log(tmp_path):
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(tmp_path / "new.db")) as new:
        new.execute("CREATE TABLE t (a)")
        new.commit()
    write(path, (tmp_path / "new.db").read_bytes())
    with closing(sqlite3.connect(path)) as changed:
        changed.execute("PRAGMA journal_mode = WAL")
    write(path, path.read_bytes())
    before = len(kept_of(path))
    with closing(sqlite3.connect(path)) as changed:
        changed.execute("INSERT INTO t VALUES (7)")
        changed.commit()
        write(path, (tmp_path / "new.db").read_bytes())
    kept = [one for one in kept_of(path) if not one.name.endswith("-wal")][before:]
    with closing(sqlite3.connect(kept[-1])) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(7,)]
    assert not path.with_name("some.db-wal").exists()


def test_removing_takes_ours_and_keeps_others(tmp_path):
    path = tmp_path / "some.unit"
    write(path, b"ours")
    owned.remove(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"theirs")
    owned.remove(path)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == b"theirs"


# -- durable -----------------------------------------------------------------------------------


def test_a_new_file_never_takes_a_name_that_is_taken(tmp_path):
    path = tmp_path / "some.toml"
    assert durable.create(path, b"ours", durable.PRIVATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not durable.create(path, b"again")
    assert path.read_bytes() == b"ours"
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "away")
    assert not durable.create(dangling, b"ours")
    assert not (tmp_path / "away").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "some.toml"]


def test_a_disk_without_hard_links_serves_as_well(tmp_path, monkeypatch):
    def no_links(*_args, **_options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "some.toml"
    assert durable.create(path, b"ours")
    assert not durable.create(path, b"again")
    assert path.read_bytes() == b"ours"
    assert [one.name for one in tmp_path.iterdir()] == ["some.toml"]


def test_a_scratch_folder_of_a_killed_run_goes_and_anothers_stays(tmp_path):
    folder = tmp_path / ".import"
    with durable.scratch_folder(folder):
        (folder / "list.db").touch()
        shutil.copytree(folder, tmp_path / "left")
    assert not folder.exists()
    (tmp_path / "left").rename(folder)
    with durable.scratch_folder(folder):
        assert not (folder / "list.db").exists()
    folder.mkdir()
    (folder / "thesis.txt").write_text("two years")
    with pytest.raises(ConfigError, match="move it away"), durable.scratch_folder(folder):
        pass
    assert (folder / "thesis.txt").read_text() == "two years"
