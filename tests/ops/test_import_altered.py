"""Altered images are never taken for Etsy's originals, and are marked where they come."""

import json
import shutil

import pytest
from old_world import IMAGE_STATUS, NewHome, OldFolder, picture
from support.sync_world import Home, small_sandbox

from furnisync.catalog.schema import open_catalog
from furnisync.images.metadata import write_metadata
from furnisync.importer.files import is_altered_place

URL = "https://i.etsystatic.com/9/r/il/ab/{0}/il_570xN.{0}_cd.jpg"


@pytest.fixture
def old(tmp_path):
    """101 has both kinds, 102 only altered images, 103 one that no source names."""
    old = OldFolder(tmp_path / "old")
    old.tables(
        IMAGE_STATUS,
        image_status=[
            {"listing_id": listing, "image_id": image, "url": URL.format(image),
             "is_primary": int(image % 10 == 1)}
            for listing, image in ((101, 11), (101, 12), (102, 21), (102, 22))
        ],
    )  # fmt: skip
    old.image("imagedownload/101_11.jpg", picture(11))
    old.image("imageembedded/101_11.jpg", picture(111))
    old.image("imageembedded/deep/101_12.jpg", picture(112))
    old.image("ImagePrimary/102.jpg", picture(121))
    old.tar("imagetarred/imageall_00000.tar", "102_22.jpg", picture(122))
    old.tar("some/imageembedded_3.tar", "103_31.jpg", picture(131))
    old.tar("some/plain.tar", "imageembedded/101_11.jpg", picture(111))
    return old


@pytest.fixture
def home(tmp_path):
    return NewHome(tmp_path / "home")


def originals(home):
    return home.rows("SELECT listing_id, image_id, status, file FROM images ORDER BY 1, 2")


def altered(home):
    return home.rows("SELECT listing_id, image_id, origin, file FROM altered_images ORDER BY 1, 2")


ORIGINALS = [
    (101, 11, "done", "101/101_11.jpg"), (101, 12, "pending", None),
    (102, 21, "pending", None), (102, 22, "pending", None),
]  # fmt: skip
PICTURES = {(101, 11): 111, (101, 12): 112, (102, 21): 121, (102, 22): 122, (103, 31): 131}


@pytest.mark.parametrize(
    ("place", "is_one"),
    [
        ("/a/imageembedded", True), ("/a/imagetarred/x.tar", True), ("/a/ImagePrimary/1", True),
        ("/a/imageprimary_00001.tar", True), ("imageembedded/1_2.jpg", True), ("altered/1", True),
        ("/a/imagedownload", False), ("/a/images", False), ("/a/unaltered", False),
        ("/a/imageembeddedness/1", False), ("/a/plain.tar", False),
    ],
)  # fmt: skip
def test_places(place, is_one):
    assert is_altered_place(place) == is_one


def test_unless_asked_for_they_stay_where_they_are(old, home):
    before = old.contents()
    out = home.take(old.path, "--adopt", "move")
    assert originals(home) == ORIGINALS
    assert altered(home) == []
    assert home.rows("SELECT listing_id FROM listings") == [(101,), (102,)]
    assert "6  altered images left where they are" in out
    assert "--take-altered" in out
    assert {k: v for k, v in before.items() if "imagedownload" not in k} == old.contents()


def test_a_link_is_known_by_its_own_name(old, home, tmp_path):
    """The folder is on another disk under another name."""
    (old.images / "imageembedded").rename(tmp_path / "elsewhere")
    (old.images / "imageembedded").symlink_to(tmp_path / "elsewhere")
    home.take(old.path)
    assert originals(home) == ORIGINALS
    other = NewHome(tmp_path / "other")
    other.take("--images", old.images / "imageembedded")
    assert originals(other) == []


@pytest.mark.parametrize("adopt", ["place", "copy", "move"])
def test_asked_for_they_come_beside_the_originals(old, home, adopt):
    before = old.contents()
    out = home.take(old.path, "--take-altered", "--adopt", adopt)
    assert originals(home) == ORIGINALS
    assert altered(home) == [
        (*ids, "altered", f"altered/{ids[0]}/{ids[0]}_{ids[1]}.jpg") for ids in PICTURES
    ]
    for listing_id, image_id, _, file in altered(home):
        seed = PICTURES[listing_id, image_id]
        assert (home.path / "images" / file).read_bytes() == picture(seed)
    assert home.check_files() == 6
    assert "5  altered images adopted" in out
    gone = set(before) - set(old.contents())
    assert not gone or adopt == "move"
    assert not [name for name in gone if name.endswith(".tar")]
    state = home.dump()
    home.take(old.path, "--take-altered", "--adopt", adopt)
    assert home.dump() == state


@pytest.mark.parametrize("adopt", ["place", "copy"])
def test_originals_are_queued_again_that_an_earlier_version_took_from_altered_ones(
    old, home, adopt
):
    """It knew no altered images: here they are in a folder of another name at first."""
    (old.images / "imageembedded").rename(old.images / "folder")
    old.image("folder/102_29.jpg", picture(29))  # of which no address is known
    home.take(old.path, "--adopt", adopt)
    assert {row[:3] for row in originals(home)} >= {(101, 12, "done"), (102, 29, "done")}
    files = [home.path / "images" / row[3] for row in originals(home) if row[3]]
    wrong = sum(file.read_bytes() != picture(11) for file in files)
    (old.images / "folder").rename(old.images / "imageembedded")
    out = home.take(old.path, "--adopt", adopt)
    assert originals(home) == ORIGINALS
    assert home.rows("SELECT DISTINCT reason FROM images WHERE image_id = 12") == [
        ("replaced_by_altered",)
    ]
    assert f"{wrong}  images to be fetched again" in out
    assert "fetched again" not in home.take(old.path, "--adopt", adopt, "--take-altered")
    assert originals(home) == ORIGINALS
    assert {row[:2] for row in altered(home)} == {*PICTURES, (102, 29)}
    assert home.check_files() == 7


def test_another_home_knows_them_by_the_folder_where_we_keep_them(old, home, tmp_path):
    home.take(old.path, "--take-altered")
    other = NewHome(tmp_path / "other")
    other.take("--images", home.path / "images")
    assert [row[:2] for row in originals(other)] == [(101, 11)]


def test_a_rehearsal_counts_them_and_takes_none(old, home):
    out = home.take(old.path, "--take-altered", "--dry-run")
    assert "5  altered images adopted" in out
    assert not (home.path / "images").exists()


def test_verify_knows_them_and_a_lost_one_comes_again(old, home):
    home.take(old.path, "--take-altered", "--adopt", "copy")
    ended = home.run("verify", "--sha256")
    assert ended.returncode == 0, ended.stdout
    assert "all correct" in ended.stdout
    lost = home.path / "images" / "altered" / "101" / "101_11.jpg"
    body = lost.read_bytes()
    lost.unlink()
    for repair in ((), ("--repair",)):  # Etsy does not have it: nothing is asked of it
        ended = home.run("verify", *repair)
        assert ended.returncode == 1
        assert "altered/101/101_11.jpg" in ended.stdout
        assert "import --take-altered" in " ".join(ended.stdout.split())
        assert originals(home) == ORIGINALS
    home.take(old.path, "--take-altered", "--adopt", "copy")
    assert lost.read_bytes() == body
    assert home.run("verify", "--sha256").returncode == 0


def test_the_metadata_file_marks_them(old, home):
    home.take(old.path, "--take-altered")
    path = home.path / "image_metadata.json"
    catalog = open_catalog(home.path / "catalog.db")
    write_metadata(catalog, path, "images")
    catalog.close()
    found = json.loads(path.read_bytes())
    assert found["101"]["altered"] == [
        {"image_id": image, "file": f"images/altered/101/101_{image}.jpg", "origin": "altered"}
        for image in (11, 12)
    ]
    assert [image["status"] for image in found["101"]["images"]] == ["done", "pending"]
    assert all("altered" not in image["file"] for image in found["101"]["images"] if image["file"])
    # Another home that takes this file over takes none of them for an original.
    other = NewHome(home.path.parent / "other")
    other.take("--metadata", path, "--images", home.path / "images")
    assert originals(other) == ORIGINALS


def test_the_metadata_file_is_as_before_without_any(old, home):
    home.take(old.path)
    path = home.path / "image_metadata.json"
    catalog = open_catalog(home.path / "catalog.db")
    write_metadata(catalog, path, "images")
    catalog.close()
    assert all(set(one) == {"shop_id", "images"} for one in json.loads(path.read_bytes()).values())


def test_a_purge_takes_them_and_an_import_does_not_bring_them_back(old, home):
    home.take(old.path, "--take-altered")
    assert home.run("purge", "--listing", 103, "--yes").returncode == 0
    assert home.run("purge", "--listing", 101, "--yes").returncode == 0
    left = {path.name for path in (home.path / "images").rglob("*.jpg")}
    assert left == {"102_21.jpg", "102_22.jpg"}
    assert {row[0] for row in altered(home)} == {102}
    home.take(old.path, "--take-altered")
    assert {path.name for path in (home.path / "images").rglob("*.jpg")} == left
    assert {row[0] for row in altered(home)} == {102}


def test_a_backup_keeps_what_is_known_of_them(old, home, tmp_path):
    home.take(old.path, "--take-altered")
    known = altered(home)
    assert home.run("backup", tmp_path / "backup").returncode == 0
    other = NewHome(tmp_path / "other")
    assert other.run("restore", tmp_path / "backup").returncode == 0
    shutil.copytree(home.path / "images", other.path / "images")
    assert altered(other) == known
    assert other.check_files() == 6


def test_they_never_satisfy_a_download(tmp_path):
    """Image sync fetches the original of an image of which an altered image is here."""
    with small_sandbox(shops=2, listings=6, images_mean=1) as sandbox:
        first = Home(tmp_path / "first", sandbox)
        assert first.start("--fast").wait().status == 0
        rows = first.rows("SELECT listing_id, image_id, file FROM images WHERE status = 'done'")
        old = OldFolder(tmp_path / "old")
        for listing_id, image_id, _ in rows:
            old.image(f"imageembedded/{listing_id}_{image_id}.jpg", picture(image_id))
        second = Home(tmp_path / "second", sandbox)
        taken = second.start(
            str(old.path), "--take-altered", command=("-m", "furnisync", "import")
        ).wait()
        assert taken.status == 0, taken.out
        assert second.rows("SELECT count(*) FROM altered_images") == [(len(rows),)]
        assert second.start("--fast").wait().status == 0
        for _, image_id, file in rows:
            body = (first.path / "images" / file).read_bytes()
            assert (second.path / "images" / file).read_bytes() == body
            assert body != picture(image_id)
        assert second.rows("SELECT count(*) FROM images WHERE status = 'done'") == [(len(rows),)]
