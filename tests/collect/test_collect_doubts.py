"""Answers that are well formed and false: asked again, and believed only where they stay so."""

from __future__ import annotations

import asyncio

import pytest
from support.collect_world import (
    BATCH_CALL,
    LIST_CALL,
    REVIEW_CALL,
    SHOP_CALL,
    Home,
    Truth,
    calls_of,
    content,
    no_calls,
    read_reviews,
    seed_catalog,
    small_sandbox,
    true_reviews,
)

from furnisync.etsy.credibility import (
    ask_until_believed,
    doubt_listings,
    doubt_reviews,
    doubt_shop,
    with_fields,
)
from furnisync.etsy.models import WholePage
from furnisync.history.review_paging import ReviewAsk
from furnisync.limits import BELIEVED_AFTER

ASK = ReviewAsk()


def review(number, **changes):
    return {"transaction_id": number, "listing_id": 1, "rating": 5, "review": "", **changes}


def reviews(count, *, told=None):
    return WholePage(count if told is None else told, [review(n) for n in range(count)])


BARE = WholePage(2, [review(1), review(2, rating=None, review=None)])
SHORT = reviews(3, told=5)
TWICE = WholePage(2, [review(1), review(1)])
GOOD = reviews(5)


def ask_of(*answers):
    """Ask for answers that come one after another; the page, its doubt, how many were asked."""
    waiting = list(answers)

    async def ask():
        return waiting.pop(0)

    page, doubt = asyncio.run(ask_until_believed(ask, lambda page: doubt_reviews(page, ASK)))
    return page, doubt, len(answers) - len(waiting)


def test_what_leaves_no_doubt_is_asked_once():
    assert ask_of(GOOD, SHORT) == (GOOD, None, 1)


@pytest.mark.parametrize("odd", [BARE, SHORT, TWICE])
def test_what_is_doubtful_is_asked_again(odd):
    assert ask_of(odd, odd, GOOD) == (GOOD, None, 3)


def test_fields_that_never_come_are_done_without():
    page, doubt, asked = ask_of(BARE, BARE, BARE)
    assert (page, asked) == (BARE, BELIEVED_AFTER)
    assert doubt.usable


def test_answers_that_are_odd_each_in_its_way_tell_nothing():
    _, doubt, _ = ask_of(SHORT, TWICE, BARE)
    assert not doubt.usable


@pytest.mark.parametrize("ask", [ReviewAsk(min_created=5), ReviewAsk(max_created=5)])
def test_no_review_at_a_second_that_had_one_is_believed_when_it_stays_so(ask):
    """Else one empty answer in the middle of a walk would end it, its watermark moved."""
    doubt = doubt_reviews(WholePage(0, []), ask)
    assert doubt is not None
    assert doubt.usable
    assert doubt_reviews(WholePage(0, []), ASK) is None
    assert doubt_reviews(WholePage(100, []), ReviewAsk(max_created=5, offset=100)) is None


def test_a_batch_without_any_listing_is_believed_when_it_stays_so():
    """One empty answer would make a hundred listings gone."""
    doubt = doubt_listings(WholePage(0, []), 100)
    assert doubt is not None
    assert doubt.usable


def test_a_batch_that_counts_nothing_is_believed_whole_only_when_it_stays_so():
    one = {"listing_id": 1, "title": "Table"}
    assert doubt_listings(WholePage(None, [one]), 2).usable
    assert doubt_listings(WholePage(None, [one]), 1) is None
    assert doubt_listings(WholePage(1, [one]), 2) is None


def test_no_review_of_a_shop_that_tells_of_some_is_no_end():
    empty = WholePage(0, [])
    assert not doubt_reviews(empty, ASK, some=True).usable
    assert doubt_reviews(empty, ASK, some=False) is None
    assert doubt_reviews(WholePage(1, [review(1)]), ASK, some=True) is None


def test_a_short_page_without_fields_is_not_kept():
    page = WholePage(5, [review(1), review(2, rating=None, review=None)])
    assert not doubt_reviews(page, ASK).sound
    assert doubt_reviews(SHORT, ASK).sound


def test_a_review_without_text_and_buyer_is_no_doubt():
    assert doubt_reviews(WholePage(1, [review(1, review=None)]), ASK) is None
    assert doubt_reviews(WholePage(1, [review(1, rating=None)]), ASK) is None


def test_what_is_known_to_be_counted_and_not_sent_is_no_doubt():
    assert doubt_reviews(SHORT, ASK, unsent=2) is None
    assert doubt_reviews(SHORT, ASK, unsent=1).missing == 2
    assert doubt_reviews(reviews(3, told=103), ReviewAsk(offset=100)) is None


def test_a_shop_without_its_fields_is_doubted_wherever_it_comes():
    shop = {"shop_id": 7, "url": None, "listing_active_count": None}
    assert doubt_shop(shop, 7).usable
    assert doubt_shop({**shop, "create_date": 1}, 7) is None
    assert not doubt_shop({**shop, "create_date": 1}, 8).usable
    assert not doubt_shop({"count": 1, "results": None}, 7).usable
    listing = {"listing_id": 1, "title": "Table", "shop": shop}
    assert doubt_listings(WholePage(1, [listing]), 1).usable
    assert doubt_listings(WholePage(1, [{**listing, "shop": None}]), 1) is None


@pytest.fixture(scope="module")
def world():
    with small_sandbox(shops=12, listings=150, reviews_mean=30, giant_reviews=230) as sandbox:
        yield sandbox


@pytest.fixture
def home(world, tmp_path):
    home = Home(tmp_path / "home", world)
    seed_catalog(home, world)
    yield home
    world.set_faults([])


def test_reviews_that_are_counted_and_never_sent_are_done_without_at_last(world, home):
    """Twice the walk waits with its reason; then Etsy is taken at its word, and stays so."""
    world.set_faults([{"call": REVIEW_CALL, "do": "missing_items"}])
    for _ in range(2):
        ended = home.start("--fast").wait()
        assert ended.status == 1, ended.out
        assert "fewer reviews came than the answer counts" in ended.out
        assert home.number("SELECT count(*) FROM reviews") > 0  # what came is kept
    assert not home.rows("SELECT 1 FROM sync_state WHERE reviews_watermark NOT NULL")
    home.sync()
    kept = home.number("SELECT count(*) FROM reviews")
    assert kept >= 200
    giant = home.rows("SELECT max(reviews_unsent), max(reviews_watermark) FROM sync_state")
    assert giant[0][0] >= 10
    with no_calls(world):
        home.sync()
    assert home.number("SELECT count(*) FROM reviews") == kept


def test_a_batch_that_is_odd_each_time_in_its_way_leaves_no_empty_rows(tmp_path):
    """The last answer decides nothing where the two before it were odd for another reason."""
    with small_sandbox(shops=3, listings=60) as sandbox:
        seen = []
        for name, faults in (
            (
                "faulty",
                [
                    {"do": "wrong_types", "call": BATCH_CALL, "nth": [1, 2]},
                    {"do": "null_fields", "call": BATCH_CALL, "nth": [3]},
                ],
            ),
            ("undisturbed", []),
        ):
            home = Home(tmp_path / name, sandbox)
            seed_catalog(home, sandbox)
            sandbox.set_faults(faults)
            assert home.start("--fast").wait().status == (1 if faults else 0)
            assert not home.rows("SELECT 1 FROM listings_dynamic WHERE quantity IS NULL")
            sandbox.set_faults([])
            home.sync()
            seen.append(content(home))
    assert seen[0] == seen[1]


def test_what_is_right_in_an_answer_that_is_wrong():
    good = {"listing_id": 1, "title": "Oak", "shop": {"shop_id": 7, "url": "u"}}
    odd = [
        {"listing_id": 2, "shop_id": 7},
        {"listing_id": 3, "title": "Ash", "shop": {"shop_id": 7}},
    ]
    bare_shop = {"listing_id": 4, "title": "Elm", "shop": None}
    assert with_fields([good, *odd, bare_shop]) == [good, bare_shop]


def test_a_shop_that_came_without_its_fields_once_is_whole(world, home, tmp_path):
    """Also the shops that no listing brought."""
    undisturbed = Home(tmp_path / "undisturbed", world)
    seed_catalog(undisturbed, world)
    undisturbed.sync()
    assert calls_of(world)[SHOP_CALL] > 0
    world.set_faults([{"call": SHOP_CALL, "do": "null_fields", "nth": [1, 3]}])
    home.sync()
    assert world.asked()["faults"][0]["done"] > 0
    assert content(home) == content(undisturbed)


@pytest.mark.parametrize("call", [LIST_CALL, SHOP_CALL])
def test_one_404_puts_no_shop_away(world, home, tmp_path, call):
    """The shop itself is asked once more; else it and its listings would be gone for months."""
    undisturbed = Home(tmp_path / "undisturbed", world)
    seed_catalog(undisturbed, world)
    undisturbed.sync()
    world.set_faults([{"call": call, "do": "404", "nth": [1, 4]}])
    ended = home.start("--fast").wait()
    assert world.asked()["faults"][0]["done"] > 0
    assert ended.status == (1 if call == LIST_CALL else 0), ended.out
    home.sync()
    assert content(home) == content(undisturbed)


def test_a_server_with_smaller_review_pages_hides_no_review(bent_home, bent):
    bent.set_faults([{"where": "api", "call": REVIEW_CALL, "do": "page_size", "size": 5}])
    bent_home.sync()
    truth = Truth(bent)
    alive = [shop_id for shop_id, shop in truth.shops.items() if not shop["gone"]]
    assert read_reviews(bent_home) == true_reviews(truth, alive)
    longest = max(len(truth.reviews[shop_id]) for shop_id in alive)
    assert longest > 10, "a world in which pages of 5 matter"
    assert bent_home.number("SELECT count(*) FROM sync_state WHERE reviews_unsent > 0") == 0
