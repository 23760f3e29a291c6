import pytest

from furnisync.history.schema import open_history
from furnisync.history.selection import Selection


@pytest.fixture(scope="session")
def selection():
    return Selection.of()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "etsy_data.db"


@pytest.fixture
def history(path, selection):
    connection = open_history(path, selection)
    connection.execute("PRAGMA synchronous = OFF")  # kills are tested elsewhere, with it on
    yield connection
    connection.close()
