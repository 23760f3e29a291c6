"""A store that knows its folder's mark writes nothing where the mark is not."""

from __future__ import annotations

import pytest

from furnisync.identity import IMAGES_MARK, Mark, write_mark
from furnisync.image_job import ReasonCode
from furnisync.store import NotStored
from furnisync.store.folder import FolderStore

MARK = Mark("home", "images")
AWAY = "^the image folder is not here$"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    write_mark(root / IMAGES_MARK, MARK)
    return root


def test_nothing_is_made_where_the_folder_is_missing(tmp_path):
    with pytest.raises(NotStored, match=AWAY) as caught:
        FolderStore(tmp_path / "images", MARK).put(1, 1, "jpg", b"x")
    assert caught.value.reason.code is ReasonCode.FOLDER_AWAY
    assert caught.value.reason.is_local
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_into_a_folder_with_another_mark(root):
    store = FolderStore(root, Mark("another", "images"))
    with pytest.raises(NotStored, match=AWAY):
        store.put(1, 1, "jpg", b"x")
    assert [path.name for path in root.iterdir()] == [IMAGES_MARK]


def test_a_folder_that_is_swapped_between_two_files_is_noticed(root, tmp_path):
    """The mount point even has the folders that an older version once made in it."""
    store = FolderStore(root, MARK)
    store.put(1, 1, "jpg", b"x")
    root.rename(tmp_path / "unplugged")
    (root / "001").mkdir(parents=True)
    (root / ".partial").mkdir()
    with pytest.raises(NotStored, match=AWAY):
        store.put(1, 2, "jpg", b"y")
    assert list((root / "001").iterdir()) == []
    (root / "001").rmdir()
    (root / ".partial").rmdir()
    root.rmdir()
    (tmp_path / "unplugged").rename(root)
    assert store.put(1, 2, "jpg", b"y") == "001/1_2.jpg"


def test_a_probe_meets_what_the_last_file_met_and_leaves_nothing(root):
    store = FolderStore(root, MARK)
    (root / "001").touch()  # a file where a folder is due
    with pytest.raises(NotStored):
        store.put(1, 1, "jpg", b"x")
    with pytest.raises(NotStored):
        store.probe()
    (root / "001").unlink()
    store.probe()
    assert list((root / "001").iterdir()) == []
    assert list((root / ".partial").iterdir()) == []


def test_a_file_is_found_whatever_its_format(root):
    store = FolderStore(root, MARK)
    store.put(1234, 5, "webp", b"x")
    assert store.find(1234, 5) == "234/1234_5.webp"
    assert store.find(1234, 6) is None
