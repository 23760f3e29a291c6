"""The ledger against an Etsy on virtual time: days pass in a second, stalls are exact."""

import asyncio
import logging
from contextlib import closing
from pathlib import Path

import pytest
from quota_world import FakeClock, FakeEtsy, call, call_many, most_in_a_second, open_ledger, run

from furnisync.config import QuotaSettings
from furnisync.quota.clock_check import ClockState
from furnisync.quota.ledger import Ledger, QuotaHeaders, read_state

DAY_S = 86_400.0


def kinds(ledger) -> list[str]:
    return [event.kind for event in ledger.state().events]


def test_the_first_call_goes_alone_and_then_the_headers_rule(tmp_path: Path, clock) -> None:
    images, data = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock, "data")
    etsy = FakeEtsy(clock, per_second=20)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call_many(images, etsy, 30, latency_s=2.0))
            group.create_task(call_many(data, etsy, 30, latency_s=2.0))
            await asyncio.sleep(1.9)
            assert len(etsy.calls) == 1

    run(clock, main())
    assert len(etsy.calls) == 60
    assert etsy.refused == 0
    assert images.state().limit_per_second == 20
    assert clock.mono - 5000 < 2 + 60 / 18.8 + 2.5


def test_without_any_header_it_goes_on_at_five_a_second(tmp_path: Path, clock) -> None:
    ledger = open_ledger(tmp_path, clock)
    granted = []

    async def work(n: int) -> None:
        await ledger.acquire("batch")
        granted.append(clock.mono - 5000)
        if n:
            await asyncio.sleep(0.1)
            ledger.settle("batch", QuotaHeaders(200))

    async def main() -> None:
        await asyncio.gather(*(work(n) for n in range(51)))  # the first is never settled

    run(clock, main())
    assert granted[0] == 0
    assert granted[1] == pytest.approx(10.0, abs=0.2)
    assert granted[-1] - granted[1] == pytest.approx(49 / 5, abs=0.2)


def test_callers_are_served_in_order_and_a_cancelled_one_takes_nothing(tmp_path, clock) -> None:
    ledger, served = open_ledger(tmp_path, clock, mode="slow"), []

    async def work(n: int) -> None:
        await ledger.acquire("batch")
        served.append(n)
        ledger.settle("batch", FakeEtsy(clock).call())

    async def main() -> None:
        tasks = [asyncio.create_task(work(n)) for n in range(10)]
        await asyncio.sleep(0.5)
        for n in (1, 4, 9):  # 1 is at the head, asleep; the others behind
            tasks[n].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(clock, main())
    assert served == [0, 2, 3, 5, 6, 7, 8]
    assert ledger.state().used_last_day == 7
    assert 5.9 <= clock.mono - 5000 <= 6.5


def test_a_stalled_loop_sends_no_burst(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_second=50)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(call_many(ledger, etsy, 200, callers=40))
            for _ in range(5):
                await asyncio.sleep(0.5)
                clock.advance(3.0)  # nothing runs meanwhile

    run(clock, main())
    assert etsy.refused == 0
    assert most_in_a_second(etsy.calls) <= 50


def test_a_spent_day_waits_and_goes_on_when_calls_are_free(tmp_path: Path, clock, caplog) -> None:
    """The day's own calls were made an hour ago, in a bucket that leaves in 23 h."""
    caplog.set_level(logging.INFO, "furnisync.quota")
    etsy = FakeEtsy(clock, per_day=300, bucket_s=3600.0)
    clock.advance(3600 - clock.mono % 3600)
    etsy.spend(100)  # somebody else's, three hours before ours
    clock.advance(3 * 3600.0)
    images, data = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock, "data")

    async def main() -> float:
        async with asyncio.TaskGroup() as group:
            group.create_task(call_many(images, etsy, 110, callers=5))
            group.create_task(call_many(data, etsy, 86, callers=5))
        assert images.state().waiting_until is None
        clock.advance(20 * 3600.0)
        started = clock.mono
        async with asyncio.TaskGroup() as group:
            group.create_task(call_many(images, etsy, 20, callers=5))
            group.create_task(call_many(data, etsy, 20, callers=5))
        return clock.mono - started

    waited = run(clock, main())
    assert etsy.refused == 0
    assert 3500 <= waited <= 2 * 3600  # one hour until the foreign bucket leaves, and the next look
    looks = len([at for at in etsy.calls if at > etsy.calls[195] + 1]) - 39
    assert looks <= 8  # 1, 2, 4 ... minutes; both programs together
    spent = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(spent) == 2  # one for each process's log
    assert "the day's calls are spent (3 of 300 left); waiting until 20" in spent[0].message
    assert kinds(images).count("spent") == 1
    assert kinds(images).count("freed") == 1


def test_the_reserve_is_kept(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock, reserve_percent=10), FakeEtsy(clock, per_day=200)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await call_many(ledger, etsy, 500, callers=40)

    run(clock, main())
    assert etsy.used_today() == 180
    state = ledger.state()
    assert (state.remaining_today, state.reserve, state.waiting_why) == (
        20, 20, "the day's calls are spent",
    )  # fmt: skip
    assert state.waiting_until == pytest.approx(clock.wall + DAY_S, abs=600)


def test_a_spent_day_with_nothing_left_is_asked_once_an_hour(tmp_path: Path, clock) -> None:
    etsy = FakeEtsy(clock, per_day=50)
    etsy.tells_retry_after = False
    etsy.spend(49)
    images = open_ledger(tmp_path, clock, reserve_percent=0)
    data = open_ledger(tmp_path, clock, "data", reserve_percent=0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.5 * 3600):
                await asyncio.gather(
                    call_many(images, etsy, 9, callers=9), call_many(data, etsy, 9, callers=9)
                )

    run(clock, main())
    assert etsy.refused == 3
    gaps = [b - a for a, b in zip(etsy.calls, etsy.calls[1:], strict=False)]
    assert gaps == pytest.approx([3600] * 3, abs=5)


def test_a_told_retry_after_binds_everybody_and_then_one_asks(tmp_path: Path, clock) -> None:
    etsy = FakeEtsy(clock, per_day=50, bucket_s=600.0)
    etsy.spend(30)
    clock.advance(DAY_S - 3600)
    etsy.spend(19)
    images = open_ledger(tmp_path, clock, reserve_percent=0)
    data = open_ledger(tmp_path, clock, "data", reserve_percent=0)
    started = clock.mono

    async def main() -> None:
        await images.acquire("probe")
        images.settle("probe", QuotaHeaders(429, retry_after_s=2000.0))
        assert data.state().waiting_until == pytest.approx(clock.wall + 2000)
        async with asyncio.TaskGroup() as group:
            group.create_task(call_many(images, etsy, 5, callers=5))
            group.create_task(call_many(data, etsy, 5, callers=5))

    run(clock, main())
    assert etsy.calls[0] - started == pytest.approx(2000, abs=2)
    assert kinds(images).count("refused") == 1
    assert etsy.refused <= 1


def test_a_second_429_lowers_the_rate_of_all_for_some_minutes(tmp_path: Path, clock) -> None:
    images, data = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock, "data")
    etsy = FakeEtsy(clock)

    async def main() -> None:
        await call_many(images, etsy, 5)
        await images.acquire("batch")
        images.settle("batch", QuotaHeaders(429, remaining_today=9000, retry_after_s=2.0))
        refused = clock.mono
        await call(data, etsy)
        assert etsy.calls[-1] - refused == pytest.approx(2.0, abs=0.2)
        assert data.state().rate_per_second == pytest.approx(81.0)
        clock.advance(61)
        assert data.state().rate_per_second == pytest.approx(90.0)

    run(clock, main())


def test_somebody_else_on_the_key_makes_us_hold_back(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_second=20)
    etsy.foreign_per_second = 17

    async def main() -> None:
        await call_many(ledger, etsy, 30, callers=4)

    run(clock, main())
    assert etsy.refused < 15


@pytest.mark.parametrize("limit", [1, 2, 5, 10, 100])
def test_our_own_full_seconds_cost_no_throughput(tmp_path: Path, clock, limit) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_second=limit)
    calls = limit * 12

    async def main() -> None:
        await call_many(ledger, etsy, calls, callers=40)

    run(clock, main())
    assert etsy.refused == 0
    rate = min(90.0, max(limit - max(0.06 * limit, 0.5), limit / 2))
    assert clock.mono - 5000 <= 1.03 * calls / rate + 0.5


def test_a_cut_limit_is_told_at_once_and_kept(tmp_path: Path, clock, caplog) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_second=150)
    caplog.set_level(logging.INFO, "furnisync.quota")

    async def main() -> None:
        await call_many(ledger, etsy, 50)
        etsy.per_second, etsy.per_day = 10, 5000
        await call_many(ledger, etsy, 50)
        etsy.per_day = 100_000
        await call_many(ledger, etsy, 5)

    run(clock, main())
    assert [record.message for record in caplog.records if "limit" in record.message] == [
        "Etsy lowered the limit per second from 150 to 10",
        "Etsy lowered the limit per day from 100,000 to 5,000",
        "Etsy raised the limit per day from 5,000 to 100,000",
    ]
    assert sorted(kinds(ledger)) == ["limit-fell", "limit-fell", "limit-rose"]


@pytest.mark.parametrize("hours", [-30, -5, 5, 30])
def test_a_jump_of_the_wall_clock_neither_stalls_nor_floods(tmp_path, clock, hours) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_second=20)

    async def main() -> None:
        await call_many(ledger, etsy, 60)
        clock.wall += hours * 3600
        await call_many(ledger, etsy, 60)

    run(clock, main())
    assert etsy.refused == 0
    assert clock.mono - 5000 <= 120 / 18.8 + 1.5


@pytest.mark.parametrize("hours", [-30, -5])
def test_a_clock_set_back_does_not_prolong_a_retry_after(tmp_path, clock, hours) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)

    async def main() -> None:
        await call(ledger, etsy)
        ledger.settle("batch", QuotaHeaders(429, retry_after_s=45.0))
        clock.wall += hours * 3600
        await call(ledger, etsy)

    run(clock, main())
    assert clock.mono - 5000 == pytest.approx(45, abs=2)


def test_another_boot_goes_on_at_once(tmp_path: Path) -> None:
    before = FakeClock(mono=900_000.0)
    etsy = FakeEtsy(before)
    ledger = open_ledger(tmp_path, before, mode="slow")
    run(before, call_many(ledger, etsy, 3))
    ledger.close()
    after = FakeClock(mono=20.0, wall=before.wall + 60)
    etsy.clock = after
    ledger = open_ledger(tmp_path, after, mode="slow")
    run(after, call(ledger, etsy))
    assert after.mono < 20.5
    assert ledger.state().used_last_day == 4


def test_slow_mode_spreads_what_is_left(tmp_path: Path, clock) -> None:
    ledger = open_ledger(tmp_path, clock, mode="slow", reserve_percent=10, spread_s=1000)
    etsy = FakeEtsy(clock, per_day=300)
    run(clock, call_many(ledger, etsy, 150))
    # What is left above the reserve falls as exp(-t / 1000 s): 270 ... 120 of it took 811 s.
    assert clock.mono - 5000 == pytest.approx(811, rel=0.05)


def test_two_keys_in_one_home_do_not_mix(tmp_path: Path, clock) -> None:
    one = open_ledger(tmp_path, clock, key_id="one")
    two = open_ledger(tmp_path, clock, key_id="two")
    etsy, other = FakeEtsy(clock, per_day=5000), FakeEtsy(clock, per_day=100)

    async def main() -> None:
        await asyncio.gather(call_many(one, etsy, 5), call_many(two, other, 5))

    run(clock, main())
    assert clock.mono - 5000 < 5
    assert one.state().remaining_today == 4995
    assert two.state().remaining_today == 95
    assert two.state().used_last_day == 5


def test_calls_are_booked_by_purpose_and_old_ones_leave(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)

    async def main() -> None:
        await call_many(ledger, etsy, 20, purpose="reviews")
        clock.advance(2 * 3600)
        await call_many(ledger, etsy, 10, purpose="shops")

    run(clock, main())
    used = {one.purpose: (one.last_hour, one.last_day) for one in ledger.state().usage}
    assert used == {"reviews": (0, 20), "shops": (10, 10)}
    clock.advance(23 * 3600)
    assert read_state(tmp_path / "quota.db", None, clock).used_last_day == 10
    clock.advance(DAY_S)
    run(clock, call(ledger, etsy))
    rows = ledger._file.connection.execute("SELECT count(*) FROM usage").fetchone()[0]
    assert rows == 1


def test_leased_calls_are_booked_for_what_they_were_made(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)

    async def main() -> None:
        await call(ledger, etsy)
        purposes = ["batch", "discovery", "shops"] * 40
        await asyncio.gather(*(call(ledger, etsy, purpose=one) for one in purposes))

    run(clock, main())
    used = {one.purpose: one.last_day for one in ledger.state().usage if one.last_day}
    assert used == {"batch": 41, "discovery": 40, "shops": 40}
    assert ledger.state().in_flight == 0
    assert etsy.refused == 0


def test_slots_that_nobody_takes_in_time_are_given_back(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock)

    async def main() -> None:
        await call(ledger, etsy)
        waiting = [asyncio.create_task(ledger.acquire("batch")) for _ in range(12)]
        await waiting[3]
        for one in waiting:
            one.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        for _ in range(ended.count(None)):
            ledger.settle("batch", etsy.call())
        await asyncio.sleep(5)
        await call(ledger, etsy)

    run(clock, main())
    assert ledger.state().used_last_day == len(etsy.calls) < 12
    assert ledger.state().in_flight == 0


def test_calls_that_nobody_answered_are_given_up(tmp_path: Path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_day=1000)

    async def main() -> None:
        await call(ledger, etsy)
        for _ in range(5):
            await ledger.acquire("batch")
        assert ledger.state().remaining_today == 994
        assert ledger.state().in_flight == 5
        clock.advance(130)
        await call(ledger, etsy)

    run(clock, main())
    assert ledger.state().in_flight == 0


def test_answers_are_matched_with_the_calls_of_their_tasks(tmp_path: Path, clock) -> None:
    """Answers in reverse order: the first call's, with the highest count, comes last."""
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_day=1000)

    async def work(n: int) -> None:
        await ledger.acquire("batch")
        answer = etsy.call()
        await asyncio.sleep(5.0 - n / 10)
        ledger.settle("batch", answer)
        assert ledger.state().remaining_today <= 999 - 10

    async def main() -> None:
        await call(ledger, etsy)
        await asyncio.gather(*(work(n) for n in range(10)))

    run(clock, main())
    assert ledger.state().remaining_today == 989


def test_nothing_is_known_where_nothing_ran(tmp_path: Path, clock) -> None:
    path = tmp_path / "quota.db"
    assert read_state(path, None, clock) is None
    open_ledger(tmp_path, clock).close()
    assert read_state(path, "another", clock) is None
    path.write_bytes(b"junk" * 1000)
    assert read_state(path, None, clock) is None


def test_after_a_429_one_call_tries_before_the_others_follow(tmp_path: Path, clock) -> None:
    images, data = open_ledger(tmp_path, clock), open_ledger(tmp_path, clock, "data")
    etsy = FakeEtsy(clock)

    async def main() -> None:
        await call(images, etsy)
        await images.acquire("batch")
        images.settle("batch", QuotaHeaders(429, retry_after_s=30.0))
        async with asyncio.TaskGroup() as group:
            group.create_task(call_many(images, etsy, 10, latency_s=4.0))
            group.create_task(call_many(data, etsy, 10, latency_s=4.0))
            await asyncio.sleep(33.5)  # the answer of the first is due after 34 s
            assert len(etsy.calls) == 2
            await asyncio.sleep(6.0)
            assert len(etsy.calls) == 21

    run(clock, main())


def test_a_look_that_is_refused_without_a_word_is_not_repeated_at_once(tmp_path, clock) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_day=50)
    etsy.spend(50)
    etsy.tells_retry_after = False

    async def main() -> None:
        await ledger.acquire("batch")
        ledger.settle("batch", QuotaHeaders(429, None, None, 50, 0, 7200.0))
        clock.advance(7000)
        await call_many(ledger, etsy, 3)

    run(clock, main())
    assert etsy.calls == pytest.approx([12_200, 15_800, 19_400], abs=5)


def test_a_wrong_clock_is_told_to_all_with_its_beginning(tmp_path: Path, clock) -> None:
    """Both programs and their next runs tell since when, as the first of them saw it."""
    path, now = tmp_path / "quota.db", clock.now()
    images = open_ledger(tmp_path, clock)
    images.note_clock(ClockState(-7200.0, now))
    data = open_ledger(tmp_path, clock, "data")
    data.note_clock(ClockState(-7205.0, now + 600))
    told = read_state(path, None, clock).clock
    assert (told.behind_s, told.since, told.wrong) == (-7205.0, now, True)
    data.note_clock(ClockState(-300.0, now + 900))
    told = read_state(path, None, clock).clock
    assert (told.since, told.wrong) == (now + 900, False), "minutes off is another thing"
    images.note_clock(None)
    assert read_state(path, None, clock).clock is None


def test_a_key_used_under_a_clock_years_ahead_is_not_the_latest_for_ever(tmp_path, clock) -> None:
    path = tmp_path / "quota.db"
    for key_id, ahead_s, limit in (("old", 3650 * DAY_S, 5_000), ("new", 0.0, 100_000)):
        moved = FakeClock(clock.mono, clock.now() + ahead_s)
        with closing(Ledger(path, key_id, "images", "fast", QuotaSettings(), moved)) as ledger:
            asyncio.run(ledger.acquire("probe"))
            ledger.settle("probe", QuotaHeaders(200, limit_per_day=limit))
    assert read_state(path, None, clock).limit_per_day == 100_000


@pytest.mark.parametrize("jump_s", [3650 * DAY_S, -3650 * DAY_S, 8 * 3600.0, -8 * 3600.0])
def test_a_wall_clock_that_jumps_neither_stops_nor_frees_calls(tmp_path, clock, jump_s) -> None:
    ledger, etsy = open_ledger(tmp_path, clock), FakeEtsy(clock, per_second=20)

    async def main() -> None:
        await call_many(ledger, etsy, 40)
        clock.wall += jump_s
        await call_many(ledger, etsy, 40)

    began = clock.mono
    run(clock, main())
    assert (len(etsy.calls), etsy.refused) == (80, 0)
    assert clock.mono - began < 2 * 80 / 18.0
