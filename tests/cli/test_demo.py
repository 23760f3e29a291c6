"""`furnisync demo` removes only what an earlier demo made, and ends with commands that work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT, surroundings

from furnisync.cli.demo import DEMO_MARK
from furnisync.lockfile import single_instance


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder; its home is demo-data there if not said otherwise."""
    return subprocess.run(
        [sys.executable, "-m", "furnisync", "demo", "--listings", "20", *arguments],
        cwd=folder, env=surroundings(None, {}), capture_output=True, text=True, check=False,
    )  # fmt: skip


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_folder_that_no_demo_made_is_left_as_it_is(tmp_path):
    home = tmp_path / "photos"
    (home / "images").mkdir(parents=True)
    (home / "images" / "mine.jpg").write_bytes(b"the only copy")
    (home / "catalog.db").write_bytes(b"mine too")
    before = tree(home)
    ended = demo(tmp_path, "--home", str(home))
    assert (ended.returncode, ended.stdout) == (2, "")
    (sentence,) = ended.stderr.splitlines()
    assert f"{home} is not empty and no demo made it: name a new folder with --home" in sentence
    assert tree(home) == before


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "demo-data").write_text("mine")
    ended = demo(tmp_path)
    assert ended.returncode == 2
    (sentence,) = ended.stderr.splitlines()
    assert "cannot be used for a demo" in sentence
    assert (tmp_path / "demo-data").read_text() == "mine"


@pytest.mark.parametrize(
    ("lock", "words"), [(DEMO_MARK, "a demo already runs"), (".data.lock", "data sync already")]
)
def test_a_home_in_use_is_left_as_it_is(tmp_path, lock, words):
    home = tmp_path / "demo-data"
    home.mkdir()
    (home / DEMO_MARK).touch()
    (home / "catalog.db").write_bytes(b"in use")
    with single_instance(home / lock, "the test"):
        ended = demo(tmp_path)
        assert ended.returncode == 2
        assert words in ended.stderr
        assert (home / "catalog.db").read_bytes() == b"in use"


def test_an_earlier_demo_is_replaced_and_links_are_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    home = tmp_path / "demo-data"
    home.mkdir()  # an empty folder needs no mark
    assert demo(tmp_path).returncode == 0
    (home / "images" / "left-over.jpg").write_bytes(b"old")
    (home / "linked").symlink_to(elsewhere)
    (home / "linked.txt").symlink_to(elsewhere / "mine")

    ended = demo(tmp_path)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (home / DEMO_MARK).is_file()
    assert not [name for name in tree(home) if "left-over" in name or "linked" in name]
    assert (elsewhere / "mine").read_text() == "mine"
    assert "a local fake Etsy with 20 furniture listings" in ended.stdout


@pytest.mark.parametrize("checkout", [True, False])
def test_the_closing_commands_work_where_the_demo_runs(tmp_path, checkout):
    folder = ROOT if checkout else tmp_path
    ended = demo(folder, "--home", str(tmp_path / "home"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *_, images, data = ended.stdout.splitlines()
    for line, script, job in (
        (images, "sync_images.py", "images"),
        (data, "sync_data.py", "data"),
    ):
        assert (script in line) is checkout
        shown = subprocess.run(
            [*shlex.split(line), "--help"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert shown.returncode == 0, shown.stderr
        assert f"furnisync {job}" in shown.stdout or script in shown.stdout
