"""What was purged stays away, whoever tells of it again: Etsy, old data, an ids file."""

from __future__ import annotations

from pathlib import Path

import pytest
from old_world import NewHome, OldFolder, picture
from support.sync_world import Home, small_sandbox

T = 1_779_000_000
DAY_S = 86_400
HEX = {"hex": "abc", "suffix": "s1"}


def old_tool(path):
    """An older tool's folder: shop 9 with 101 and 102, shop 8 with 103, all in every source."""
    old = OldFolder(path)
    of = {101: 9, 102: 9, 103: 8}
    old.metadata({str(one): {"image_id": one * 10, "shop_id": of[one], **HEX} for one in of})
    for one in of:
        old.image(f"{one}.jpg", picture(one))
        old.image(f"{one}_{one * 10 + 1}.jpg", picture(one + 500))
    dated = {"snapshot_timestamp": T}
    old.tables(
        shops=[{"shop_id": shop, **dated, "url": "u"} for shop in (8, 9)],
        shops_dynamic=[{"shop_id": shop, **dated, "num_favorers": 5} for shop in (8, 9)],
        listings=[{"listing_id": one, "shop_id": of[one], **dated, "title": "t"} for one in of],
        listings_dynamic=[{"listing_id": one, **dated, "state": "active"} for one in of],
        reviews=[
            {"shop_id": of[one], "listing_id": one, "buyer_user_id": buyer, "rating": 5, **dated,
             "review": "good", "create_timestamp": T - buyer}
            for one in of for buyer in (501, 502)
        ],
        sync_state=[{"key": "last_shop_sync", "value": f'{{"8": {T}, "9": {T}}}'}],
    )  # fmt: skip
    return old


def held(home):
    """Ids of shops and listings, and buyers, in every place that can hold them."""
    files = {int(path.name.split("_")[0]) for path in (home.path / "images").rglob("*.jpg")}
    return {
        "files": files,
        "catalog listings": {row[0] for row in home.rows("SELECT listing_id FROM listings")},
        "catalog images": {row[0] for row in home.rows("SELECT listing_id FROM images")},
        "catalog shops": {row[0] for row in home.rows("SELECT shop_id FROM shops")},
        "buyers": {row[0] for row in home.history("SELECT buyer_user_id FROM reviews")},
        **{
            f"{table} {key}": {row[0] for row in home.history(f"SELECT {key}_id FROM {table}")}
            for table, key in (
                ("shops", "shop"), ("shops_dynamic", "shop"), ("sync_state", "shop"),
                ("listings", "listing"), ("listings_dynamic", "listing"), ("reviews", "listing"),
            )
        },
    }  # fmt: skip


@pytest.mark.parametrize("adopt", ["link", "copy", "move"])
@pytest.mark.parametrize(
    ("purged", "left", "shops", "buyers"),
    [
        (("--listing", 101), {102, 103}, {8, 9}, {501, 502}),
        (("--shop", 9), {103}, {8}, {501, 502}),
        (("--buyer", 501), {101, 102, 103}, {8, 9}, {502}),
    ],
)
def test_an_import_of_old_data_does_not_bring_it_back(tmp_path, purged, left, shops, buyers, adopt):
    home = NewHome(tmp_path / "home")
    home.take(old_tool(tmp_path / "old").path)
    assert home.run("purge", "--yes", *purged).returncode == 0
    before = held(home)
    again = old_tool(tmp_path / "again")  # with what a move would have taken
    contents = again.contents()
    home.take(again.path, "--adopt", adopt)
    found = held(home)
    assert found == before
    assert found.pop("buyers") == buyers
    assert all(ids == (shops if "shop" in name else left) for name, ids in found.items()), found
    gone = {name: body for name, body in contents.items() if name not in again.contents()}
    assert not gone or adopt == "move"
    assert not [name for name in gone if int(Path(name).name[:3]) not in left]
    names = {row["entry"] for row in home.report() if row["what"] == "listings purged here"}
    assert names == {str(one) for one in {101, 102, 103} - left}


def test_a_listing_that_only_the_older_tool_knew_of_a_purged_shop_stays_out(tmp_path):
    home = NewHome(tmp_path / "home")
    old = OldFolder(tmp_path / "first")
    old.metadata({"101": {"image_id": 1010, "shop_id": 9, **HEX}})
    home.take(old.path)
    assert home.run("purge", "--yes", "--shop", 9).returncode == 0
    home.take(old_tool(tmp_path / "old").path)
    found = held(home)
    assert found.pop("buyers") == {501, 502}
    assert all(ids == ({8} if "shop" in name else {103}) for name, ids in found.items()), found


def test_purged_before_the_first_data_sync_it_stays_out_of_the_history(tmp_path):
    home = NewHome(tmp_path / "home")
    ended = home.run("purge", "--yes", "--buyer", 501)
    assert ended.returncode == 2
    assert "holds no data of furnisync" in ended.stdout
    assert not list(home.path.glob("*.db"))
    first = OldFolder(tmp_path / "first")
    first.metadata({"101": {"image_id": 1010, "shop_id": 9, **HEX}})
    home.take(first.path)
    assert home.run("purge", "--yes", "--buyer", 501).returncode == 0
    assert home.run("purge", "--yes", "--listing", 101).returncode == 0
    home.take(old_tool(tmp_path / "old").path)
    found = held(home)
    assert found.pop("buyers") == {502}
    assert all(ids == ({8, 9} if "shop" in name else {102, 103}) for name, ids in found.items())


def test_real_syncs_do_not_bring_it_back(tmp_path):
    with small_sandbox(shops=4, listings=30, images_mean=1, reviews_mean=8) as sandbox:
        home = Home(tmp_path / "home", sandbox)
        both(home)
        listing, shop = home.rows(
            "SELECT listing_id, (SELECT shop_id FROM shops WHERE shop_id <> listings.shop_id"
            " AND shop_id IN (SELECT shop_id FROM listings) LIMIT 1) FROM listings LIMIT 1"
        )[0]
        [(buyer,)] = home.rows(
            "SELECT buyer_user_id FROM reviews WHERE shop_id <> ? AND buyer_user_id NOT NULL"
            " LIMIT 1", shop, name="etsy_data.db"
        )  # fmt: skip
        of_shop = {
            row[0] for row in home.rows("SELECT listing_id FROM listings WHERE shop_id=?", shop)
        }
        for what in (("--listing", listing), ("--shop", shop), ("--buyer", buyer)):
            assert home.run("purge", "--yes", *map(str, what)).status == 0
        # A season later everything is due again, and an ids file names the listing.
        home.later(200)
        (tmp_path / "ids.txt").write_text(f"{listing}\n{min(of_shop)}\n")
        both(home, str(tmp_path / "ids.txt"))
        both(home)
        gone = of_shop | {listing}
        for table in ("listings", "images"):
            assert gone.isdisjoint(ids(home, table, "listing_id", "catalog.db")), table
        for table in ("listings", "listings_dynamic", "reviews"):
            assert gone.isdisjoint(ids(home, table, "listing_id", "etsy_data.db")), table
        assert shop not in ids(home, "shops", "shop_id", "catalog.db")
        for table in ("shops", "shops_dynamic", "sync_state", "reviews"):
            assert shop not in ids(home, table, "shop_id", "etsy_data.db"), table
        assert buyer not in ids(home, "reviews", "buyer_user_id", "etsy_data.db")
        assert gone.isdisjoint(int(Path(name).name.split("_")[0]) for name in home.files())
        assert len(ids(home, "reviews", "transaction_id", "etsy_data.db")) > 1


def both(home, *arguments):
    for job in ("images", "data"):
        more = arguments if job == "images" else ()
        ended = home.start("--fast", *more, command=("-m", "furnisync", job)).wait()
        assert ended.status == 0, ended.out


def ids(home, table, column, name):
    return {row[0] for row in home.rows(f"SELECT {column} FROM {table}", name=name)}
