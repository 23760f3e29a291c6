"""How many API calls the work costs, counted by the sandbox.

Images are as small as can be and only the first of each listing is fetched: they cost no calls.
"""

import math
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.homes import DAY_S, SMALL_IMAGES, Home
from bench.rows import Row
from furnisync.sandbox.process import SandboxProcess

REVIEWS = "shops/{shop_id}/reviews"
SOON_DAYS, LATE_DAYS = 15, 100
"""Shops are due again after 14 days, reviews of shops without news after 84."""


def run(*, quick: bool) -> list[Row]:
    """First image syncs of a world within the reach of one query and one beyond; data syncs."""
    shops, listings, many = (20, 300, 400) if quick else (300, 6000, 20_000)
    with TemporaryDirectory() as folder:
        rows = _measure(Path(folder), shops, listings)
    if not quick:
        with TemporaryDirectory() as folder, _sandbox(shops * 3, many) as sandbox:
            calls = _sync_images(Home(Path(folder), sandbox, images={"which": "primary"}), sandbox)
            rows.insert(1, _image_row(f"{many:,} listings, plan to be cut", calls, many))
    return rows


def _sandbox(shops: int, listings: int) -> SandboxProcess:
    return SandboxProcess(shops=shops, listings=listings, **SMALL_IMAGES)


def _measure(folder: Path, shops: int, listings: int) -> list[Row]:
    with _sandbox(shops, listings) as sandbox:
        home = Home(folder, sandbox, images={"which": "primary"})
        found = [_image_row(f"{listings:,} listings", _sync_images(home, sandbox), listings)]
        found.append(_together_row(folder / "together", sandbox, listings))
        again = _sync_images(home, sandbox)
        found.append(Row(what="calls of an image sync straight after", value=again, at_most=0))
        calls, reviews = _sync_data(home, sandbox)
        floor = _floor(home, sandbox)
        how = f"{calls} calls, the floor is {floor}; {reviews} review calls besides"
        found.append(
            Row(what="first data sync, calls by the floor", value=calls / floor,
                at_most=1.05, how=how)
        )  # fmt: skip
        found += _later_reviews(home, sandbox)
        for path in folder.glob("etsy_data.db*"):
            path.unlink()
        calls, _ = _sync_data(home, sandbox, "--furniture-only")
        found.append(
            Row(what="--furniture-only, calls per 1,000 listings", value=calls / listings * 1000,
                at_most=11, how="the floor is 10")
        )  # fmt: skip
    return found


def _image_row(what: str, calls: int, listings: int) -> Row:
    return Row(
        what=f"first image sync of {what}: calls per 1,000",
        value=calls / listings * 1000,
        at_most=22,
        how=f"{calls} calls in all; the floor is 20: a page and a batch for each 100",
    )


def _together_row(folder: Path, sandbox: SandboxProcess, listings: int) -> Row:
    """Both programs, one after the other: data sync uses what image sync was told."""
    home = Home(folder, sandbox, images={"which": "primary"})
    images = _sync_images(home, sandbox)
    data, reviews = _sync_data(home, sandbox, "--furniture-only")
    return Row(
        what="both programs, furniture only, reviews aside: calls per 1,000",
        value=(images + data) / listings * 1000,
        at_most=21.5,
        how=f"{images} of image sync, {data} of data sync, {reviews} for reviews besides;"
        f" outbox {(folder / 'images_outbox.db').stat().st_size / listings:.0f} bytes a listing",
    )


def _sync_images(home: Home, sandbox: SandboxProcess) -> int:
    sandbox.reset_asked()
    home.run("images", "--fast")
    return int(sandbox.asked()["total"])


def _sync_data(home: Home, sandbox: SandboxProcess, *flags: str) -> tuple[int, int]:
    """Run a data sync; returns its calls without reviews, and those for reviews."""
    sandbox.reset_asked()
    home.run("data", "--fast", *flags)
    asked = sandbox.asked()
    reviews = sum(asked["calls"].get(REVIEWS, {}).values())
    return int(asked["total"]) - reviews, reviews


def _floor(home: Home, sandbox: SandboxProcess) -> int:
    """A page for each started 100 listings of each known shop, a batch for each 100 listings."""
    with closing(sqlite3.connect(home.path / "catalog.db")) as catalog:
        known = {row[0] for row in catalog.execute("SELECT shop_id FROM shops")}
    shops = sandbox.truth_shops()
    sizes = [int(shop["active"]) for shop in shops if shop["shop_id"] in known]
    return sum(math.ceil(size / 100) for size in sizes) + math.ceil(sum(sizes) / 100)


def _later_reviews(home: Home, sandbox: SandboxProcess) -> list[Row]:
    """Two later syncs in a world where no review was written meanwhile.

    Signals move all the same where a review becomes too old to count; those shops are left out.
    """
    first = _signals(home)
    sandbox.move_clock(SOON_DAYS * DAY_S)
    _sync_data(home, sandbox)
    soon = _asked_for_reviews(sandbox)
    second = _signals(home)
    sandbox.move_clock((LATE_DAYS - SOON_DAYS) * DAY_S)
    _sync_data(home, sandbox)
    late = _asked_for_reviews(sandbox)
    quiet = [shop for shop, signals in first.items() if second[shop] == signals]
    return [
        Row(what=f"review calls for a shop without news, {SOON_DAYS} days on",
            value=sum(soon[shop] for shop in quiet) / len(quiet), at_most=0,
            how=f"{len(quiet)} shops whose signals have not moved, so they may wait"),
        Row(what=f"review calls for a shop without news, {LATE_DAYS} days on",
            value=sum(late[shop] for shop in quiet) / len(quiet), at_most=1,
            how="after 84 days they are looked at all the same"),
    ]  # fmt: skip


def _signals(home: Home) -> dict[int, str]:
    with closing(sqlite3.connect(home.path / "etsy_data.db")) as history:
        return dict(history.execute("SELECT shop_id, signals FROM sync_state WHERE status = 'ok'"))


def _asked_for_reviews(sandbox: SandboxProcess) -> Counter[int]:
    log = sandbox.asked(log=True)["log"]
    return Counter(int(call["path"].split("/")[-2]) for call in log if call["call"] == REVIEWS)
