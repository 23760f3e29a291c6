"""Queue, connections, pace, back-off, and how it ends."""

import time

import pytest
from support.faulty_cdn import JPEG

from furnisync.clock import SystemClock
from furnisync.download.downloader import UNREACHABLE_IN_A_ROW, download_batch
from furnisync.image_job import ImageJob


def poll_all(downloader, count):
    outcomes = []
    while len(outcomes) < count:
        outcomes += downloader.poll(5.0)
    return outcomes


def test_batch_answers_each_job_once(store, limits, jobs, cdn):
    paths = ["/ok", "/404", "/html", "/500", "/png", "/reset/mid"] * 20
    outcomes = download_batch(jobs(*paths), store, limits(), SystemClock())
    assert sorted(outcome.job.image_id for outcome in outcomes) == list(range(120))
    by_result = [outcome.result for outcome in outcomes]
    assert [by_result.count(each) for each in ("done", "gone", "bad", "failed")] == [
        40,
        20,
        20,
        40,
    ]


def test_connections_are_limited(downloader, jobs, cdn):
    cdn.gate_size = 3
    it = downloader(connections=3)
    it.submit(jobs(*["/gated"] * 12))
    assert it.waiting == 12
    poll_all(it, 12)
    assert cdn.most_at_once == 3


def test_connections_are_kept_alive(downloader, jobs, cdn):
    it = downloader(connections=3)
    for _ in range(5):
        it.submit(jobs(*["/ok", "/404", "/hop/0"] * 10))
        poll_all(it, 30)
    assert cdn.connections <= 3


def test_poll_returns_in_time_and_says_where_it_is(downloader, jobs):
    it = downloader(connections=2)
    assert it.poll(0.0) == []
    it.submit(jobs("/hang", "/hang", "/hang"))
    began = time.monotonic()
    assert it.poll(0.1) == []
    assert time.monotonic() - began < 5
    assert (it.active, it.waiting) == (2, 1)
    assert it.paused_until is it.pause_reason is None


def test_pace_is_even(downloader, jobs, clock, cdn):
    it = downloader(clock, per_second=5.0, connections=10)
    it.submit(jobs(*["/ok"] * 4))
    poll_all(it, 1)
    for done in (2, 3, 4):
        assert it.poll(0.02) == []
        clock.at += 0.199
        assert it.poll(0.02) == []
        clock.at += 0.002
        poll_all(it, 1)
        assert len(cdn.requests) == done


def test_pace_with_the_real_clock(downloader, jobs):
    it = downloader(per_second=50.0)
    it.submit(jobs(*["/ok"] * 11))
    began = time.monotonic()
    poll_all(it, 11)
    # The first 5 (a tenth of a second's worth) may come at once, the others may not be early.
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(
    ("status", "after", "least", "most"),
    [(503, "7", 7, 7), (429, "", 1, 1), (429, "date", 90, 100), (503, "999999", 900, 900)],
)
def test_refusal_pauses_all(downloader, jobs, clock, cdn, status, after, least, most):
    it = downloader(clock, connections=1)
    refused = f"/once/{status}/{after}/a"
    it.submit(jobs(refused, *["/ok"] * 5))
    outcomes = []
    while not it.paused_until:
        outcomes += it.poll(5.0)
    (answer,) = outcomes
    assert answer.reason.words == str(status)
    assert least <= it.paused_until - clock.now() <= most
    assert it.pause_reason == f"{status} from the image server"
    clock.at += least - 0.5
    assert it.poll(0.05) == []
    assert (len(cdn.requests), it.waiting) == (1, 5)
    clock.at += most - least + 0.6
    assert len(poll_all(it, 5)) == 5
    assert it.paused_until is it.pause_reason is None


def test_begun_transfers_go_on_through_a_pause(downloader, jobs, clock, cdn):
    cdn.gate_size = 99
    it = downloader(clock, connections=2)
    it.submit(jobs("/gated", "/once/503/5/b", "/ok"))
    assert poll_all(it, 1)[0].result == "failed"
    assert it.paused_until
    cdn.open_gate()
    assert poll_all(it, 1)[0].result == "done"
    assert (it.active, it.waiting) == (0, 1)


def test_line_that_is_down_pauses_all(store, downloader, clock, cdn):
    hosts = frozenset({"127.0.0.1:9"})
    it = downloader(clock, connections=4, allowed_hosts=hosts)
    it.submit(ImageJob(1, at, "http://127.0.0.1:9/a") for at in range(100))
    outcomes = []
    while not it.paused_until:
        outcomes += it.poll(5.0)
    while it.active:
        outcomes += it.poll(5.0)
    assert len(outcomes) <= UNREACHABLE_IN_A_ROW + 4
    assert it.pause_reason.startswith("no way to 127.0.0.1:9 (no connection: ")
    assert it.waiting == 100 - len(outcomes)


def test_drain_finishes_what_is_under_way(downloader, jobs, cdn):
    cdn.gate_size = 99
    it = downloader(connections=2)
    it.submit(jobs("/gated", "/gated", "/ok", "/ok"))
    while cdn.at_once < 2:
        assert it.poll(0.01) == []
    cdn.open_gate()
    assert [outcome.result for outcome in it.drain(10.0)] == ["done", "done"]
    assert (it.active, it.waiting) == (0, 0)
    assert "/ok" not in cdn.asked()


def test_drain_breaks_off_what_takes_too_long(downloader, jobs, cdn):
    it = downloader(connections=2)
    it.submit(jobs("/hang", "/stall", "/ok"))
    while len(cdn.requests) < 2:
        assert it.poll(0.01) == []
    began = time.monotonic()
    assert it.drain(0.1) == []
    assert time.monotonic() - began < 5
    assert (it.active, it.waiting) == (0, 0)
    # It can go on afterwards.
    it.submit(jobs("/ok"))
    assert poll_all(it, 1)[0].size_bytes == len(JPEG)


def test_close_twice_and_with_transfers_under_way(downloader, jobs):
    it = downloader()
    it.submit(jobs("/hang", "/hang"))
    it.poll(0.01)
    it.close()
    it.close()
