"""The API broken, a kind of its calls, or one item: what waits, what is tried, what is told."""

from __future__ import annotations

import asyncio
import json
import logging
from urllib.parse import urlsplit

import pytest

from furnisync.config import ApiKey, ApiSettings
from furnisync.errors import ApiUnavailable, BadRequest, ItemRefused, UpstreamDown
from furnisync.etsy.client import EtsyClient
from furnisync.http.transport import Response

START = 1_790_000_000.0
LOGIN_PAGE = Response(200, {"content-type": "text/html"}, b"<html>Accept the terms</html>")
ERROR = Response(500, {}, b'{"error": "Server Error"}')
REFUSED = {"x-remaining-today": "98000", "x-remaining-this-second": "149", "retry-after": "86400"}


class World:
    """A client on a clock that sleeping moves; `broken` says how a path is answered.

    Attributes:
        sent: the last part of each path, in order.
    """

    def __init__(self, **settings):
        self.settings = ApiSettings(**{"attempts": 3, **settings})
        self.at = START
        self.sent = []
        self.times = []
        self.outages = []
        self.broken = {}
        self.patience_s = self.repaired_at = float("inf")
        self.recovered = []

    def now(self):
        return self.at

    def monotonic(self):
        return self.at - START

    async def acquire(self, _):
        pass

    def settle(self, *_):
        pass

    def note_clock(self, _):
        pass

    def note_outages(self, outages):
        self.outages.append(tuple(outages))

    async def close(self):
        pass

    async def fetch(self, request):
        path = urlsplit(request.url).path.removeprefix("/v3/")
        self.sent.append(path)
        self.times.append(self.at)
        await asyncio.sleep(0)
        for part, answer in self.broken.items():
            if part in path:
                return answer
        body = {"shop_id": 1, "count": 0, "results": []}
        return Response(200, {}, json.dumps(body).encode())

    def run(self, work, monkeypatch):
        really_sleep, sleeping = asyncio.sleep, []

        async def sleep(delay_s):
            sleeping.append(None)
            await really_sleep(0)
            self.at += delay_s / len(sleeping)
            sleeping.pop()
            if self.at >= self.repaired_at:
                self.broken = {}

        async def recovered(since):
            self.recovered.append(since)

        async def run():
            key = ApiKey("keystring", "secret")
            async with EtsyClient("https://api/v3", key, self, self.settings, self, self) as client:
                client.sender.refused_pause_s = 0.0
                client.upstreams.patience_s = self.patience_s
                client.upstreams.on_recovered = recovered
                monkeypatch.setattr(asyncio, "sleep", sleep)
                return await work(client)

        return asyncio.run(run())


@pytest.fixture
def world():
    return World()


async def outcomes(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("answer", [ERROR, LOGIN_PAGE], ids=["500", "login page"])
@pytest.mark.parametrize("callers", [1, 20])
def test_no_item_is_blamed_for_an_outage(world, monkeypatch, caplog, answer, callers):
    caplog.set_level(logging.WARNING)
    world.broken = {"": answer}
    world.repaired_at = START + 3600
    done = world.run(
        lambda client: outcomes(*(client.shop(one) for one in range(callers))), monkeypatch
    )
    assert not [one for one in done if isinstance(one, Exception)]
    assert world.sent.count("openapi-ping") < 40, "growing waits"
    assert len(world.sent) < 40 + 4 * callers
    assert caplog.text.count("Etsy's API is broken") == 1
    assert caplog.text.count("Etsy's API works again") == 1
    assert world.outages[0][0].kind == ("server_error" if answer is ERROR else "not_json")
    assert world.outages[-1] == ()
    assert {one.since for outages in world.outages for one in outages} == {world.recovered[0]}


def test_a_run_that_ends_gives_up_after_its_patience(world, monkeypatch):
    world.broken = {"": ERROR}
    world.patience_s = 600.0
    done = world.run(lambda client: outcomes(*(client.shop(one) for one in range(5))), monkeypatch)
    assert {type(one) for one in done} == {UpstreamDown}
    assert "Etsy's API has been broken since" in str(done[0])
    assert "500 Server Error" in str(done[0])
    assert 600 <= world.at - START < 1300


def test_one_item_fails_after_its_tries_while_others_are_answered(world, monkeypatch):
    world.broken = {"shops/7": ERROR}
    done = world.run(
        lambda client: outcomes(*(client.shop(one) for one in range(5, 10))), monkeypatch
    )
    assert [type(one) for one in done] == [dict, dict, ApiUnavailable, dict, dict]
    assert world.sent.count("shops/7") == 3
    assert world.outages == []


def test_a_kind_of_call_that_is_broken_is_tried_with_one_item_at_a_time(world, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    world.broken = {"/reviews": ERROR}

    async def work(client):
        reviews = asyncio.gather(
            *(client.shop_reviews(one) for one in range(30)), return_exceptions=True
        )
        while not world.outages:
            await client.shop(1)
        before = len(world.sent)
        for one in range(100):
            await client.shop(one)
        assert world.sent[before:].count("openapi-ping") <= 20
        world.broken = {}
        return await reviews

    done = world.run(work, monkeypatch)
    assert world.outages[0][0].upstream == "Etsy's API (reviews)"
    assert caplog.text.count("is broken") == caplog.text.count("works again") == 1
    failed = [one for one in done if isinstance(one, Exception)]
    assert len(failed) < 15
    assert len(world.recovered) == 1, "what its callers set aside is due again"
    assert any(not isinstance(one, Exception) for one in done)


def test_requests_that_are_refused_one_after_the_other_are_not_the_items_fault(world, monkeypatch):
    world.broken = {"/batch": Response(400, {}, b'{"error": "unknown parameter"}')}

    async def work(client):
        done = []
        for one in range(1, 20):
            done += await outcomes(client.listings_batch([one]))
            if world.outages and world.repaired_at == float("inf"):
                world.repaired_at = world.at + 100
        return done

    done = world.run(work, monkeypatch)
    assert {type(one) for one in done[:4]} == {BadRequest}
    assert world.outages[0][0].kind == "bad_request"
    assert len(world.recovered) == 1, "what was set aside is due again"
    assert not isinstance(done[-1], Exception)


def test_parts_of_a_batch_are_one_item_and_tried_once(world, monkeypatch):
    world.broken = {"/batch": ERROR}

    async def work(client):
        whole = tuple(range(1, 101))
        return [await outcomes(client.listings_batch([one], part_of=whole)) for one in range(1, 30)]

    done = world.run(work, monkeypatch)
    assert {type(one) for (one,) in done} == {ApiUnavailable}
    assert world.sent.count("listings/batch") == 29
    assert world.outages == []


def test_a_429_of_one_path_while_the_key_has_calls_left_is_that_paths(world, monkeypatch):
    world.broken = {"shops/7/reviews": Response(429, REFUSED, b'{"error": "daily limit"}')}
    done = world.run(
        lambda client: outcomes(client.shop_reviews(7), client.shop_reviews(8)), monkeypatch
    )
    assert isinstance(done[0], ItemRefused)
    assert not isinstance(done[1], Exception)
    assert world.sent.count("shops/7/reviews") == 3


def test_a_429_that_says_nothing_is_the_paths_once_ping_passes(world, monkeypatch):
    world.broken = {"shops/7/reviews": Response(429, {}, b"{}")}
    (done,) = world.run(lambda client: outcomes(client.shop_reviews(7)), monkeypatch)
    assert isinstance(done, ItemRefused)
    assert world.sent == ["shops/7/reviews", "shops/7/reviews", "openapi-ping"]
