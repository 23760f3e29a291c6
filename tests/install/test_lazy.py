"""A command costs what it uses: nothing imports what only others need, missing extras are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import typer.main
from support.processes import FREE, ROOT, ProcessHome
from typer.core import TyperGroup

from furnisync.cli.app import COMMANDS, app
from furnisync.extras import MODULES
from furnisync.sandbox.process import SandboxProcess

IMPORTED = """
import json, sys
from furnisync.cli.app import main
sys.argv[0] = "furnisync"
try:
    main()
finally:
    json.dump(sorted(sys.modules), open(sys.argv.pop(), "w"))
"""
NEVER = {"polars", "adbc_driver_sqlite", "apprise", "aiohttp", "numpy", "PIL", "fsspec"}
NETWORK = {"httpx2", "pycurl", "ijson"}


@pytest.fixture(scope="module")
def synced(tmp_path_factory) -> ProcessHome:
    """A small home after both syncs."""
    with SandboxProcess(listings=20, shops=2, **FREE) as sandbox:
        home = ProcessHome(tmp_path_factory.mktemp("synced") / "home", sandbox)
        for job in ("images", "data"):
            ended = home.start("--fast", command=("-m", "furnisync", job)).wait()
            assert ended.status == 0, ended.out
    return home


def imported(home: Path, *arguments: str) -> set[str]:
    listing = home / "modules.json"
    code = IMPORTED.replace("sys.argv.pop()", repr(str(listing)))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=home, capture_output=True, text=True,
        env={**os.environ, "FURNISYNC_HOME": str(home), "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(listing.read_text()))


def test_help_imports_no_command(tmp_path):
    found = imported(tmp_path, "--help")
    assert not found & {*NEVER, *NETWORK, "asyncio", "sqlite3", "msgspec", "rich.progress"}
    ours = {name for name in found if name.startswith("furnisync.cli.")}
    assert ours == {"furnisync.cli.app", "furnisync.cli.console", "furnisync.cli.streams"}


def test_status_imports_neither_network_nor_extras(synced):
    found = imported(synced.path, "status")
    assert not found & {*NEVER, *NETWORK, "asyncio"}
    assert not [name for name in found if name.startswith(("furnisync.ops", "furnisync.etsy"))]


@pytest.mark.parametrize("command", ["images", "data", "import", "backup", "service", "remote"])
def test_no_command_imports_an_extra_before_it_needs_it(tmp_path, command):
    assert not imported(tmp_path, command, "--help") & NEVER


@pytest.mark.parametrize("command", ["service", "remote", "backup", "verify"])
def test_only_a_sync_imports_the_syncs(tmp_path, command):
    found = imported(tmp_path, command, "--help")
    assert not found & {"furnisync.images.sync", "furnisync.collect.sync"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name):
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    said = group.commands[name].help.split("\n\n")[0].split()
    assert COMMANDS[name].summary.split() == said


def test_a_misspelt_command_gets_the_nearest_one():
    done = subprocess.run(
        [sys.executable, "-m", "furnisync", "statsu"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "No such command 'statsu'. Did you mean 'status'?" in done.stderr


# -- extras that are not installed -----------------------------------------------------------------


@pytest.fixture(scope="module")
def core_python(tmp_path_factory) -> Path:
    """The Python of an environment that has what this one has, without the extras."""
    root = tmp_path_factory.mktemp("core")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    there = Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
    extras = {name for modules in MODULES.values() for name in modules}
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(folder).iterdir():
            if path.name not in extras and path.suffix != ".pth":
                (there / path.name).symlink_to(path)
    return root / "bin" / "python"


def core(python: Path, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), *command], cwd=home, capture_output=True, text=True, check=False,
        env={**os.environ, "FURNISYNC_HOME": str(home), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


TOLD = '[notices]\nurls = ["json://127.0.0.1:9/"]\n'


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("demo", ("demo",)),
        ("demo", ("sandbox", "--help")),
        ("notices", ("notices", "test")),
        ("notices", ("notices", "check")),
    ],
)
def test_a_missing_extra_is_one_sentence_that_names_it(core_python, tmp_path, extra, command):
    (tmp_path / "furnisync.toml").write_text(TOLD)
    done = core(core_python, tmp_path, "-m", "furnisync", *command)
    assert done.returncode == 2, done.stdout + done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.endswith(f"run {core_python} -m pip install 'furnisync[{extra}]'")
    assert "not installed" in sentence


def test_a_backup_to_a_url_without_its_extra_is_the_same_sentence(core_python, synced):
    done = core(core_python, synced.path, "-m", "furnisync", "backup", "memory://backups")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].endswith("-m pip install 'furnisync[urls]'")
    ended = core(core_python, synced.path, "-m", "furnisync", "backup")
    assert ended.returncode == 0, "a folder needs no extra"


def test_analysis_without_its_extra_is_the_same_sentence(core_python, tmp_path):
    done = core(core_python, tmp_path, "-c", "import furnisync.analysis")
    last = done.stderr.splitlines()[-1]
    assert "MissingExtra: Frames for analysis need polars, which is not installed" in last
    assert last.endswith(f"run {core_python} -m pip install 'furnisync[analysis]'")


def test_a_sync_without_apprise_says_so_and_works(core_python, tmp_path):
    with SandboxProcess(listings=20, shops=2, **FREE) as sandbox:
        home = ProcessHome(tmp_path / "home", sandbox, notices={"urls": ["json://127.0.0.1:9/"]})
        done = subprocess.run(
            [str(core_python), "-m", "furnisync", "images", "--fast"], cwd=ROOT,
            env=home.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no notices can be sent: Notices need apprise" in done.stdout
    assert home.number("SELECT count(*) FROM listings") == 20


def test_doctor_names_a_missing_extra(core_python, tmp_path):
    (tmp_path / "furnisync.toml").write_text(TOLD)
    done = core(core_python, tmp_path, "-m", "furnisync", "doctor", "--json")
    checks = {one["name"]: one for one in json.loads(done.stdout)}
    assert checks["notices"]["verdict"] == "warn"
    assert "furnisync[notices]" in checks["notices"]["remedy"]
