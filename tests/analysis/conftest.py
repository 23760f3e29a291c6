import pytest
from analysis_world import make_history


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return make_history(tmp_path_factory.mktemp("home") / "etsy_data.db")
