import pytest
from analysis_world import make_history

from furnisync.history.fields.selection import Selection
from furnisync.history.schema import open_history


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return make_history(tmp_path_factory.mktemp("home") / "etsy_data.db")


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """The bytes of an empty history, so that a test can make many without waiting for the disk."""
    path = tmp_path_factory.mktemp("empty") / "etsy_data.db"
    history = open_history(path, Selection.of())
    history.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    history.close()
    return path.read_bytes()
