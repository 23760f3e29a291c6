"""A clock that the tests move."""

import pytest
from quota_world import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
