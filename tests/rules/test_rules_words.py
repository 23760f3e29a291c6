"""The house rules that a machine can hold: imports point downward, public names are explained."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import furnisync

ROOT = Path(furnisync.__file__).parent.parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(furnisync.__path__, "furnisync.")
    if not module.name.endswith("__main__")
)


def test_imports_point_downward():
    told = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_explained(name):
    module = importlib.import_module(name)
    assert module.__doc__, name
    for label, thing in vars(module).items():
        if label.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert thing.__doc__, f"{name}.{label}"
        if inspect.isclass(thing):
            for part, method in vars(thing).items():
                if inspect.isfunction(method) and not part.startswith("_"):
                    assert method.__doc__, f"{name}.{label}.{part}"


@pytest.mark.parametrize("name", MODULES)
def test_what_is_exported_exists(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", ())
    assert all(hasattr(module, label) for label in exported)
