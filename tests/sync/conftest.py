from __future__ import annotations

import pytest
from support.sync_world import Home, small_sandbox


@pytest.fixture(scope="session")
def steady():
    """A sandbox that no test changes."""
    with small_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def home(tmp_path, steady):
    return Home(tmp_path / "home", steady)


@pytest.fixture
def bent():
    """A sandbox of the test's own, to bend."""
    with small_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def bent_home(tmp_path, bent):
    return Home(tmp_path / "home", bent, api={"timeout_s": 1.0}, images={"timeout_s": 1.0})
