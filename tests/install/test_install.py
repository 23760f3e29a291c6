"""What is installed: the wheel, the locks, and environments that make and pip build for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.processes import ROOT

from furnisync.extras import MODULES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
DISTRIBUTIONS = {"PIL": "pillow", "adbc_driver_sqlite": "adbc-driver-sqlite"}
"""Those whose module has another name."""


def pins(name: str) -> set[str]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return {line for line in lines if "==" in line}


def names(lines: set[str] | list[str]) -> set[str]:
    return {Requirement(line).name for line in lines}


# -- the wheel and the locks -----------------------------------------------------------------------


def test_the_wheel_holds_the_package_only(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert {file.partition("/")[0] for file in files} == {"furnisync", "furnisync-0.1.0.dist-info"}
    assert "furnisync/furnisync.toml" in files
    assert "furnisync/crawl/furniture_taxonomy_config.json" in files


def test_the_runtime_lock_is_a_part_of_the_development_lock():
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime < development
    assert names(PROJECT["project"]["dependencies"]) <= names(runtime)
    assert names(EXTRAS["demo"]) <= names(runtime)


def test_the_runtime_lock_has_no_development_tool_and_no_other_extra():
    others = [*EXTRAS["analysis"], *EXTRAS["notices"], *EXTRAS["urls"]]
    unwanted = names([*others, *PROJECT["dependency-groups"]["dev"]])
    assert not unwanted & names(pins("requirements.lock"))
    assert unwanted <= names(pins("requirements-dev.lock"))


def test_the_extras_of_the_program_are_those_of_the_project():
    assert set(EXTRAS) == {*MODULES, "all"}
    for extra, modules in MODULES.items():
        assert names(EXTRAS[extra]) == {DISTRIBUTIONS.get(name, name) for name in modules}
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(MODULES)


# -- environments ----------------------------------------------------------------------------------


def clean_environment() -> dict[str, str]:
    """Without what this test run's own environment and make say."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(("ETSY_", "FURNISYNC_"))
    }


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_project(to: Path) -> Path:
    """What is under version control, as it is now."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def make_setup(project: Path) -> str:
    return run("make", f"PYTHON={sys.executable}", "setup", cwd=project)


def assert_works(project: Path) -> None:
    assert run("venv/bin/furnisync", "version", cwd=project).startswith("furnisync ")
    assert "--reset-shops" in run("venv/bin/python", "-u", "sync_images.py", "--help", cwd=project)
    python = project / "venv" / "bin" / "python"
    where = run(python, "-c", "import furnisync; print(furnisync.__file__)", cwd=project.parent)
    assert Path(where.strip()).is_relative_to(project)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # downloads as fast as the index gives
def test_an_environment_follows_its_folder(tmp_path):
    first = copy_project(tmp_path / "first place")
    make_setup(first)
    assert_works(first)
    assert "Nothing to be done" in make_setup(first)
    installed = run("venv/bin/python", "-m", "pip", "list", "--format=freeze", cwd=first)
    assert "aiohttp" in installed
    assert not re.search("pytest|ruff|mypy|polars|apprise", installed)

    moved = first.rename(tmp_path / "second place")
    with pytest.raises(AssertionError, match="first place/venv/bin/python"):
        run("venv/bin/furnisync", "version", cwd=moved)
    assert "venv --clear" in make_setup(moved)
    assert_works(moved)

    copied = shutil.copytree(moved, tmp_path / "copy", symlinks=True)
    assert "venv --clear" in make_setup(copied)
    assert_works(copied)
    shutil.rmtree(moved)
    assert_works(copied)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # downloads as fast as the index gives
@pytest.mark.parametrize("broken", ["no python", "no pip"])
def test_an_incomplete_environment_is_rebuilt(tmp_path, broken):
    project = copy_project(tmp_path / "project")
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=project)
    if broken == "no python":
        for path in (project / "venv" / "bin").glob("python*"):
            path.unlink()
            path.symlink_to("/nowhere/python")
    assert "venv --clear" in make_setup(project)
    assert_works(project)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # downloads as fast as the index gives
def test_pip_installs_the_core_alone(tmp_path):
    """`pip install .`: the commands run from anywhere; what an extra brings is named."""
    project = copy_project(tmp_path / "project")
    run(sys.executable, "-m", "venv", "env", cwd=tmp_path)
    run("env/bin/python", "-m", "pip", "install", "--quiet", str(project), cwd=tmp_path)
    shutil.rmtree(project)
    assert run("env/bin/furnisync", "version", cwd=tmp_path).startswith("furnisync ")
    for command in ("images", "data", "service", "import"):  # nothing of an extra is imported
        run("env/bin/furnisync", command, "--help", cwd=tmp_path)
    installed = run("env/bin/python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    unwanted = set().union(*(names(EXTRAS[extra]) for extra in MODULES))
    assert not unwanted & {line.partition("==")[0].lower() for line in installed.splitlines()}
