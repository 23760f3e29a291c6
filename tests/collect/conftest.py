from __future__ import annotations

import pytest
from support.collect_world import Home, seed_catalog, small_sandbox


@pytest.fixture(scope="session")
def steady():
    """A sandbox that no test changes."""
    with small_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def home(tmp_path, steady):
    """A home on it that knows its shops."""
    home = Home(tmp_path / "home", steady)
    seed_catalog(home, steady)
    return home


@pytest.fixture
def bent():
    """A sandbox of the test's own, to bend."""
    with small_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def bent_home(tmp_path, bent):
    home = Home(tmp_path / "home", bent, api={"timeout_s": 1.0})
    seed_catalog(home, bent)
    return home
