import pytest
from history_world import new_history

from furnisync.history.fields.selection import Selection


@pytest.fixture(scope="session")
def selection():
    return Selection.of()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "etsy_data.db"


@pytest.fixture
def history(path):
    connection = new_history(path.parent)
    yield connection
    connection.close()
