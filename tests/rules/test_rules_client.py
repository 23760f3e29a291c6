"""The API client at its transport: tries, refusals, secrets, the ledger, the end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from urllib.parse import parse_qsl, urlsplit

import pytest

from furnisync.config import ApiKey, ApiSettings
from furnisync.errors import (
    ApiUnavailable,
    BadRequest,
    ItemRefused,
    KeyRefused,
    NoResponse,
    NotFound,
    RateLimited,
)
from furnisync.etsy import sender
from furnisync.etsy.client import EtsyClient
from furnisync.http.transport import Response
from furnisync.limits import BELIEVED_AFTER

KEY = ApiKey("keystring1234567890", "s3cr3tshare")
EMPTY = b'{"count": 0, "results": []}'


class Clock:
    def now(self):
        return 1_790_000_000.0

    def monotonic(self):
        return time.monotonic()


class Ledger:
    """Grants at once, or as fast as it is told; remembers what it was asked and told."""

    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s
        self.granted = []
        self.settled = []

    async def acquire(self, purpose):
        await asyncio.sleep(self.delay_s)
        self.granted.append(purpose)

    def note_clock(self, state):
        self.clock = state

    def note_outages(self, outages):
        self.outages = outages

    def settle(self, purpose, answer):
        self.settled.append((purpose, answer))


class World:
    """A client and its transport, which gives `answers` one after the other, the last for ever."""

    def __init__(self, *answers, delay_s=0.0, **given):
        self.answers = list(answers)
        self.requests = []
        self.ledger = Ledger(delay_s)
        self.settings = ApiSettings(**{"timeout_s": 5.0, "attempts": 4, **given})

    async def fetch(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return await answer(request)
        return answer

    async def close(self):
        pass

    def ask(self, work):
        async def run():
            async with EtsyClient(
                "https://api.example/v3/application", KEY, self.ledger, self.settings, Clock(),
                transport=self,
            ) as client:  # fmt: skip
                client.sender.refused_pause_s = client.retry_first_s = 0.0
                return await work(client)

        return asyncio.run(run())

    def ping(self):
        return self.ask(lambda client: client.ping())

    def batch(self):
        return self.ask(lambda client: client.listings_batch([1, 2]))


def said(status, body=b"", **headers):
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    return Response(status, headers, content)


def path_of(request):
    return urlsplit(request.url).path


def query_of(request):
    return dict(parse_qsl(urlsplit(request.url).query))


# -- what is asked -------------------------------------------------------------------------------


def test_the_key_is_in_one_header_and_nowhere_else():
    world = World(said(200, EMPTY))
    world.ask(
        lambda client: client.listings_active(taxonomy_id=967, prices=(9.995, 50.0), offset=98)
    )
    (request,) = world.requests
    assert request.headers["x-api-key"] == "keystring1234567890:s3cr3tshare"
    rest = f"{request.url} {[v for k, v in request.headers.items() if k != 'x-api-key']}"
    rest += f"{request!r} {request}"
    assert KEY.keystring not in rest
    assert KEY.shared_secret not in rest
    assert path_of(request) == "/v3/application/listings/active"
    assert query_of(request) == {
        "limit": "100", "offset": "98", "sort_on": "created", "sort_order": "desc",
        "currency": "USD", "taxonomy_id": "967", "min_price": "9.995", "max_price": "50.0",
    }  # fmt: skip


def test_each_call_has_its_purpose():
    world = World(said(200, EMPTY))
    world.ask(lambda client: client.shop_listings_active(7))
    world.ask(lambda client: client.listings_active())
    world.batch()
    world.ping()
    assert world.ledger.granted == ["shops", "discovery", "batch", "probe"]
    assert query_of(world.requests[0])["sort_order"] == "asc"
    assert query_of(world.requests[2]) == {"listing_ids": "1,2", "includes": "Images,Shop"}


@pytest.mark.parametrize("number", [0, 101])
def test_a_batch_that_etsy_would_refuse_costs_nothing(number):
    world = World(said(200, EMPTY))
    with pytest.raises(ValueError, match="1 to 100"):
        world.ask(lambda client: client.listings_batch(range(number)))
    assert world.ledger.granted == []


# -- tries ---------------------------------------------------------------------------------------

PASSING = {
    "500": said(500, {"error": "oops"}),
    "503 as HTML": said(503, b"<html>away</html>"),
    "408": said(408),
    "425": said(425),
    "401 without words": said(401, b"<html>"),
    "403 of an edge": said(403, b"<html>blocked</html>"),
    "a redirect": said(302, b"", location="https://elsewhere.example/"),
    "204": said(204),
    "407 of a proxy": said(407),
    "no way": NoResponse("no connection: refused"),
    "half an answer": NoResponse("connection broken: reset", 200, {"x-remaining-today": "5"}),
    "HTML with 200": said(200, b"<html>hello</html>"),
    "half a body": said(200, b'{"count": 1, "resu'),
    "empty body": said(200, b""),
    "no results": said(200, {"count": 3}),
}


@pytest.mark.parametrize("trouble", PASSING)
def test_what_may_pass_is_tried_again(trouble):
    world = World(PASSING[trouble], PASSING[trouble], said(200, EMPTY))
    assert world.batch().items == []
    assert len(world.requests) == 3
    assert len(world.ledger.granted) == len(world.ledger.settled) == 3


def while_ping_works(trouble):
    """An answer for each call but ping, which is answered."""

    async def answer(request):
        if path_of(request).endswith("openapi-ping"):
            return PONG
        if isinstance(trouble, Exception):
            raise trouble
        return trouble

    return answer


@pytest.mark.parametrize("trouble", PASSING)
def test_what_does_not_pass_ends_after_the_last_try(trouble):
    world = World(while_ping_works(PASSING[trouble]))
    with pytest.raises(ApiUnavailable) as told:
        world.batch()
    assert [path_of(one).rpartition("/")[2] for one in world.requests] == [
        *["batch"] * 4, "openapi-ping",
    ]  # fmt: skip
    assert len(world.ledger.settled) == 5
    assert "listings/batch" in str(told.value) or trouble in (
        "HTML with 200", "half a body", "empty body", "no results"
    )  # fmt: skip
    assert {urlsplit(request.url).hostname for request in world.requests} == {"api.example"}


def half(*ids, count=2):
    return said(200, {"count": count, "results": [{"listing_id": one} for one in ids]})


def test_half_a_batch_is_asked_for_again():
    world = World(half(1), half(2), half(1), half(1, 2))
    assert [one.listing_id for one in world.batch().items] == [1, 2]
    world = World(half(1), half(2), half(1), half(2))
    with pytest.raises(ApiUnavailable, match="half an answer: 1 of 2"):
        world.batch()


@pytest.mark.parametrize(
    "ask",
    [lambda client: client.listings_batch([1, 2]), lambda client: client.whole_listings([1, 2])],
)
def test_a_batch_whose_count_counts_what_was_asked_is_believed_when_it_stays_so(ask):
    """Else one listing that is gone would keep 99 others from ever being read."""
    world = World(half(1))
    assert world.ask(ask).count == 2
    assert len(world.requests) == BELIEVED_AFTER


def test_half_a_batch_is_never_believed_where_count_was_seen_to_leave_out_what_is_gone():
    world = World(half(1, count=1), half(1))

    async def work(client):
        await client.listings_batch([1, 2])
        await client.listings_batch([1, 2])

    with pytest.raises(ApiUnavailable, match="half an answer: 1 of 2"):
        world.ask(work)
    assert len(world.requests) == 1 + 4


def test_reviews_that_are_counted_and_not_sent_are_left_to_who_asked():
    world = World(said(200, {"count": 7, "results": []}))
    assert world.ask(lambda client: client.shop_reviews(7)).count == 7
    assert len(world.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (410, NotFound), (400, BadRequest), (409, BadRequest)]
)
def test_what_would_end_the_same_is_not_tried_again(status, error):
    world = World(said(status, {"error": "Shop 7 is not there"}))
    with pytest.raises(error, match=f"{status} Shop 7 is not there"):
        world.batch()
    assert len(world.requests) == 1 == len(world.ledger.settled)


REFUSED = {"error": "You may not see this."}


def test_one_shop_that_is_refused_is_not_the_key_refused():
    world = World(said(200, EMPTY), said(403, REFUSED), said(200, {"application_id": 1}))

    async def work(client):
        await client.listings_batch([1])
        with pytest.raises(ItemRefused, match="shops/7/listings/active: refused to this key"):
            await client.shop_listings_active(7)

    world.ask(work)
    assert [path_of(request).rpartition("/")[2] for request in world.requests] == [
        "batch", "active", "openapi-ping",
    ]  # fmt: skip
    assert len(world.ledger.granted) == 3 == len(world.ledger.settled)


def test_a_key_that_is_withdrawn_is_told_after_two_more_calls():
    world = World(said(200, EMPTY), said(403, REFUSED))

    async def work(client):
        await client.listings_batch([1])
        await client.shop_listings_active(7)

    with pytest.raises(KeyRefused):
        world.ask(work)
    assert len(world.requests) == 4


PONG = said(200, {"application_id": 1})


def test_an_odd_refusal_of_a_key_that_works_does_not_end_a_run():
    world = World(
        said(200, EMPTY), said(403, REFUSED), PONG, said(401, REFUSED), PONG, said(200, EMPTY)
    )

    async def work(client):
        await client.listings_batch([1])
        return await client.listings_batch([1])

    assert world.ask(work).items == []
    assert len(world.requests) == 6 == len(world.ledger.settled)


def test_a_call_that_is_refused_again_and_again_is_the_key_refused():
    refusals = [said(403, REFUSED), PONG] * sender.REFUSED_FOR_GOOD
    world = World(said(200, EMPTY), *refusals)

    async def work(client):
        await client.listings_batch([1])
        await client.listings_batch([1])

    with pytest.raises(KeyRefused):
        world.ask(work)
    assert len(world.requests) == 1 + len(refusals)


FULL_SECOND = {"x-remaining-this-second": "0", "x-remaining-today": "5"}


def test_429_waits_in_the_ledger_and_is_no_failure():
    refusals = [said(429, {"error": "slow down"}, **{"retry-after": "7"}, **FULL_SECOND)] * 6
    world = World(*refusals, said(200, EMPTY), attempts=1)
    world.batch()
    assert len(world.requests) == 7
    assert [answer.retry_after_s for _, answer in world.ledger.settled] == [7.0] * 6 + [None]


def test_429_for_ever_ends():
    world = World(said(429, b"", **{"retry-after": "3"}, **FULL_SECOND), attempts=1)
    with pytest.raises(RateLimited):
        world.batch()
    assert len(world.requests) == sender.MAX_429_IN_A_ROW


def test_the_ledger_learns_the_headers():
    headers = {
        "x-limit-per-second": "10",
        "x-remaining-this-second": "9",
        "x-limit-per-day": "10000",
        "x-remaining-today": "9876",
    }
    world = World(said(500, b"", **headers), said(200, EMPTY))
    world.batch()
    (_, first), (_, second) = world.ledger.settled
    assert (first.status, first.limit_per_second, first.remaining_today) == (500, 10, 9876)
    assert (second.status, second.limit_per_day, second.remaining_today) == (200, None, None)


def test_the_ledger_learns_the_headers_of_an_answer_that_broke_off():
    """Else a 429 whose body does not come would be no reason to wait."""
    broken = NoResponse("connection broken", 429, {"retry-after": "7", "x-remaining-today": "0"})
    world = World(broken, NoResponse("no connection"), said(200, EMPTY))
    world.batch()
    (_, first), (_, second), _ = world.ledger.settled
    assert (first.status, first.retry_after_s, first.remaining_today) == (429, 7.0, 0)
    assert second is None


# -- the key refused, and secrets ----------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_in_etsys_words_with_the_remedy(status):
    world = World(said(status, {"error": "Shared secret is required in x-api-key header."}))
    with pytest.raises(KeyRefused) as told:
        world.batch()
    words = str(told.value)
    assert '"Shared secret is required in x-api-key header."' in words
    assert "ETSY_API_KEY" in words
    assert "ETSY_SHARED_SECRET" in words
    assert str(status) in words
    assert len(world.requests) == 1


LEAK = f"bad key {KEY.header()}, {KEY.shared_secret} and {KEY.keystring}"


@pytest.mark.parametrize(
    "answer",
    [
        said(401, {"error": LEAK}),
        said(403, {"error": "x", "error_description": LEAK}),
        said(400, {"error": LEAK}),
        said(404, {"error": LEAK}),
        said(429, {"error": LEAK}),
        said(500, {"error": "a" * 290 + LEAK}),
        said(200, LEAK.encode()),
        said(200, {"results": LEAK}),
        NoResponse(LEAK),
    ],
)
def test_neither_half_of_the_key_is_ever_told(answer, caplog):
    caplog.set_level(logging.DEBUG)
    world = World(answer, attempts=2)
    with pytest.raises(Exception) as told:
        world.batch()
    everything = f"{told.value} {told.value!r} {caplog.text} {KEY!r} {KEY} {world.ask}"
    assert KEY.shared_secret not in everything
    assert KEY.keystring not in everything
    assert KEY.shared_secret[:8] not in everything


def test_words_that_are_none_are_left_out():
    for body in (b'{"error": {"code": 7}}', b'{"error": null}', b"[]", b"[" * 100_000, b"\xff"):
        with pytest.raises(BadRequest, match=r"^listings/batch: 400$"):
            World(said(400, body)).batch()


# -- bodies --------------------------------------------------------------------------------------


def test_a_broken_result_costs_only_itself():
    page = World(
        said(200, {"count": 3, "results": [{"listing_id": 1}, {"listing_id": None}, 7]})
    ).batch()
    assert [one.listing_id for one in page.items] == [1]
    assert len(page.broken) == 2
    assert page.sent == 3


@pytest.mark.parametrize("results", [[], [{"id": None}], ["none"]])
def test_an_empty_taxonomy_is_no_taxonomy(results):
    world = World(said(200, {"results": results}))
    with pytest.raises(ApiUnavailable, match="taxonomy came empty"):
        world.ask(lambda client: client.taxonomy_nodes())


# -- the end -------------------------------------------------------------------------------------


async def hangs(request):
    await asyncio.sleep(60)


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.03, 0.06])
def test_a_cancelled_call_is_settled_once_if_it_was_granted(after_s):
    world = World(hangs, delay_s=0.02)

    async def cancelled(client):
        tasks = [asyncio.create_task(client.listings_active()) for _ in range(5)]
        await asyncio.sleep(after_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    world.ask(cancelled)
    assert len(world.ledger.settled) == len(world.ledger.granted)
    assert all(answer is None for _, answer in world.ledger.settled)


def test_draining_waits_for_what_is_in_flight_and_begins_nothing():
    async def slow(request):
        await asyncio.sleep(0.1)
        return said(200, EMPTY)

    world = World(slow)

    async def drained(client):
        first = asyncio.create_task(client.listings_active())
        await asyncio.sleep(0.02)
        await client.drain(5)
        await asyncio.sleep(0)
        assert first.done()
        second = asyncio.create_task(client.listings_active())
        await asyncio.sleep(0.05)
        assert not second.done()
        second.cancel()

    world.ask(drained)
    assert len(world.requests) == 1


def test_draining_lets_no_call_out_that_waited_for_its_grant():
    world = World(said(200, EMPTY), delay_s=0.05)

    async def drained(client):
        task = asyncio.create_task(client.listings_active())
        await asyncio.sleep(0.01)
        await client.drain(5)
        await asyncio.sleep(0.1)
        task.cancel()

    world.ask(drained)
    assert world.requests == []
    assert len(world.ledger.granted) == len(world.ledger.settled) == 1


def test_draining_gives_up_after_its_time(caplog):
    world = World(hangs)

    async def drained(client):
        task = asyncio.create_task(client.listings_active())
        await asyncio.sleep(0.01)
        await client.drain(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    world.ask(drained)
    assert "1 calls in flight are given up" in caplog.text
    assert len(world.ledger.settled) == 1
