"""Each gate and each rate by itself, at its borders."""

import logging

import pytest

from furnisync.clock import DAY_S
from furnisync.config import QuotaSettings
from furnisync.quota.rules import (
    ALONE_S,
    ANSWER_POLL_S,
    CREDIT_S,
    GRACE_S,
    LOOK_FIRST_S,
    LOOK_LAST_S,
    WANT_FADES_S,
    Caller,
    Go,
    Pause,
    book_grant,
    decide,
    factor,
    forget_wants,
    is_blind,
    is_turn_of,
    key_rate,
    look_in_s,
    note_spent,
    own_calls_free_at,
    program_rate,
    remaining_now,
    reserve,
    spent_message,
    spent_until,
    wants_call,
)
from furnisync.quota.state import BUCKET_S, Facts, Hold, Instant, Key, Program

NOW = Instant(5000.0, 1_795_000_000.0)
SETTINGS = QuotaSettings(
    reserve_percent=1.0, fast_per_second=90.0, slow_per_second=2.0, images_share_percent=50.0
)
NOTHING_KNOWN = Facts()


def after(seconds: float) -> Instant:
    return Instant(NOW.mono + seconds, NOW.wall + seconds)


def known_key(**more) -> Key:
    return Key(**{"heard": NOW, "limit_per_second": 100.0, "limit_per_day": 5000, **more})


def caller(name="images", mode="fast", **more) -> Caller:
    return Caller(name, Program(mode, SETTINGS, **more))


def asked(key: Key, seconds=0.0, facts=NOTHING_KNOWN, who=None) -> Go | Pause:
    return decide(key, who or caller(), facts, after(seconds))


def test_what_was_heard_a_day_ago_says_nothing():
    assert is_blind(Key(), NOW)
    assert not is_blind(known_key(), after(DAY_S))
    assert is_blind(known_key(), after(DAY_S + 1))


def test_a_lowered_rate_rises_by_a_tenth_each_minute():
    key = known_key(factor=0.3, lowered=NOW)
    found = [factor(key, after(seconds)) for seconds in (0, 59, 60, 119, 120, 420, 10_000)]
    assert found == pytest.approx([0.3, 0.3, 0.4, 0.4, 0.5, 1.0, 1.0])
    assert factor(known_key(factor=0.3), NOW) == 1.0


def test_the_rate_of_a_key():
    assert key_rate(known_key(limit_per_second=None), SETTINGS, NOW) == 5.0
    assert key_rate(known_key(limit_per_second=50.0), SETTINGS, NOW) == pytest.approx(50 / 1.1)
    assert key_rate(known_key(limit_per_second=4.0), SETTINGS, NOW) == pytest.approx(3.5)
    assert key_rate(known_key(limit_per_second=0.6), SETTINGS, NOW) == pytest.approx(0.3)
    assert key_rate(known_key(limit_per_second=500.0), SETTINGS, NOW) == 90.0
    lowered = known_key(limit_per_second=50.0, factor=0.5, lowered=NOW)
    assert key_rate(lowered, SETTINGS, NOW) == pytest.approx(25 / 1.1)


def test_what_is_left_and_what_is_kept():
    assert remaining_now(known_key(), NOTHING_KNOWN, NOW) is None
    assert remaining_now(Key(remaining=7), NOTHING_KNOWN, NOW) is None  # nobody knows since when
    assert remaining_now(known_key(remaining=7), Facts(in_flight=3), NOW) == 4
    assert remaining_now(known_key(remaining=7), Facts(in_flight=9), NOW) == 0
    assert reserve(known_key(limit_per_day=None), SETTINGS) == 0
    assert reserve(known_key(limit_per_day=5001), SETTINGS) == 51


def test_the_rate_of_a_program():
    def rate(mode, **key):
        program = Program(mode, SETTINGS)
        return program_rate(known_key(**key), program, NOTHING_KNOWN, NOW)

    assert rate("fast") == rate("fast", remaining=51) == 90.0
    assert rate("fast", remaining=50) == rate("slow", remaining=3) == 0.0
    assert rate("slow") == 2.0
    assert rate("slow", limit_per_second=2.0) == 1.5
    assert rate("slow", remaining=51) == pytest.approx(5000 / DAY_S)
    assert rate("slow", remaining=50 + 3600) == pytest.approx(3600 / SETTINGS.spread_s)
    unlimited = rate("slow", remaining=1, limit_per_day=None)
    assert unlimited == pytest.approx(1 / SETTINGS.spread_s)


def test_a_hold_is_waited_out():
    key = known_key(hold=Hold(NOW, 30.0, "429"))
    assert asked(key) == Pause(30.0, "429")
    assert asked(key, 29) == Pause(1.0, "429")
    assert isinstance(asked(key, 30), Go)


def test_while_one_call_is_out_to_learn_the_limits_the_others_wait():
    key = known_key(alone=NOW)
    assert asked(key).seconds == ANSWER_POLL_S
    assert asked(key, ALONE_S - 0.05).seconds == pytest.approx(0.05)
    assert isinstance(asked(key, ALONE_S), Go)


def test_the_last_calls_of_a_day_are_waited_for():
    facts = Facts(in_flight=2)
    assert isinstance(asked(known_key(remaining=53), facts=facts), Go)
    assert asked(known_key(remaining=52), facts=facts) == Pause(
        ANSWER_POLL_S, "the last calls of the day are being answered"
    )
    assert asked(known_key(remaining=2, looked=NOW), facts=facts) == Pause(
        ANSWER_POLL_S, "the last call of the reserve is being answered"
    )
    key = known_key(remaining=50, looked=NOW)
    assert asked(key, facts=facts) == Pause(LOOK_FIRST_S, "the day's calls are spent")
    assert asked(known_key(remaining=0, looked=NOW)) == Pause(
        LOOK_LAST_S, "the day's calls are spent"
    )
    assert isinstance(asked(key, LOOK_FIRST_S), Go)


def look_in(seconds=0.0, facts=NOTHING_KNOWN, **key) -> float:
    return look_in_s(known_key(**{"looked": NOW, "remaining": 9, **key}), facts, after(seconds))


def test_looks_for_new_calls_become_rarer():
    assert [look_in(looks=n) for n in (0, 1, 2, 5, 6, 400)] == [60, 120, 240, 1920, 3600, 3600]
    assert look_in(45) == 15
    assert look_in(60) == look_in(61) == 0
    assert look_in(remaining=0) == LOOK_LAST_S
    assert look_in(looked=None) == 0


def test_once_a_long_hold_is_over_one_call_looks():
    assert look_in(trial=True, hold=Hold(NOW, LOOK_FIRST_S, "429")) == 0
    assert look_in(trial=True, hold=Hold(NOW, LOOK_FIRST_S - 1, "429")) == LOOK_FIRST_S
    assert look_in(hold=Hold(NOW, LOOK_FIRST_S, "429")) == LOOK_FIRST_S
    assert look_in(trial=True) == LOOK_FIRST_S


def test_a_look_comes_when_our_own_oldest_calls_leave_the_day():
    def facts(in_s):
        """Our oldest calls leave the day so many seconds after NOW."""
        bucket = (NOW.wall + in_s - DAY_S) / BUCKET_S - 1
        assert bucket == int(bucket)
        return Facts(oldest_bucket=int(bucket))

    rest_s = -NOW.wall % BUCKET_S
    assert own_calls_free_at(NOTHING_KNOWN) is None
    assert own_calls_free_at(facts(rest_s + 900)) == NOW.wall + rest_s + 900
    assert look_in(remaining=0, facts=facts(rest_s + 900)) == rest_s + 900
    assert look_in(100, remaining=0, facts=facts(rest_s + 900)) == rest_s + 800
    assert look_in(remaining=0, facts=facts(rest_s - 300)) == LOOK_FIRST_S  # never more often
    assert look_in(looks=3, facts=facts(rest_s + 300)) == min(480, rest_s + 300)
    assert look_in(remaining=0, facts=facts(rest_s + 7200)) == LOOK_LAST_S


def test_slow_mode_has_a_pace_of_its_own_but_for_looks():
    who = caller(mode="slow", paid_mono=NOW.mono)
    assert asked(known_key(), who=who) == Pause(0.5, "slow mode")
    assert isinstance(asked(known_key(), 0.5, who=who), Go)
    assert isinstance(asked(known_key(spent=NOW, looked=None), who=who), Go)
    assert isinstance(asked(known_key(), who=caller(paid_mono=NOW.mono)), Go)


def test_a_slot_is_due_one_interval_after_the_one_before():
    key = known_key(paid_mono=NOW.mono)
    paused = asked(key)
    assert paused.in_line
    assert paused.seconds == pytest.approx(1 / 90)
    assert isinstance(asked(key, 1 / 90 + 1e-9), Go)
    assert isinstance(asked(known_key(paid_mono=NOW.mono + 9)), Go)  # of another boot


def test_a_slot_is_left_to_the_other_for_a_moment():
    other = Program("fast", SETTINGS, wants={"1.1": NOW.mono})
    who = caller(virtual=1.0)
    programs = {"data": other, "images": who.program}
    key = known_key(programs=programs, granted_mono=NOW.mono - 100)
    key.paid_mono = NOW.mono - 1 / 90
    assert asked(key, who=who).seconds == pytest.approx(min(GRACE_S, 1 / 180), abs=1e-6)
    key.limit_per_second = 10.0
    key.paid_mono = NOW.mono - 1.1 / 10
    assert asked(key, who=who).seconds == pytest.approx(GRACE_S, abs=1e-6)
    key.granted_mono = NOW.mono
    key.paid_mono = NOW.mono - 100
    assert asked(key, who=who).seconds == pytest.approx(GRACE_S)
    key.granted_mono = NOW.mono + 50  # of another boot
    assert asked(key, who=who).seconds == pytest.approx(GRACE_S)
    who.program.virtual = 0.0  # images are first where both are equal
    assert isinstance(asked(key, who=who), Go)


def turn(mine: float, others: float, *, name="images", key_virtual=0.0, wants=NOW.mono) -> bool:
    other = "data" if name == "images" else "images"
    programs = {
        name: Program("fast", SETTINGS, virtual=mine),
        other: Program("fast", SETTINGS, virtual=others, wants={"1.1": wants}),
    }
    key = known_key(programs=programs, virtual=key_virtual)
    return is_turn_of(key, Caller(name, programs[name]), NOW)


def test_whose_turn_it_is():
    assert turn(1.0, 2.0)
    assert not turn(2.0, 1.0)
    assert turn(2.0, 1.0, wants=NOW.mono - WANT_FADES_S)  # the other wants nothing any more
    assert turn(1.0, 1.0)
    assert not turn(1.0, 1.0, name="data")  # images first where both are equal
    assert turn(0.9, 1.0, name="data")
    # Who was idle comes back with ten turns at most: 10/50 behind the time of all.
    assert not turn(9.81, 0.0, key_virtual=10.0)
    assert turn(9.79, 0.0, key_virtual=10.0)


def test_a_word_is_fresh_for_some_seconds():
    def wants(mono):
        return wants_call(Program(wants={"1.1": mono}), NOW)

    assert wants(NOW.mono)
    assert wants(NOW.mono - WANT_FADES_S + 0.01)
    assert not wants(NOW.mono - WANT_FADES_S)
    assert not wants(NOW.mono + 0.01)
    assert not wants_call(Program(), NOW)
    key = Key(programs={"data": Program(wants={"1.1": NOW.mono, "2.1": NOW.mono - WANT_FADES_S})})
    forget_wants(key, NOW)
    assert key.programs["data"].wants == {"1.1": NOW.mono}


def booked(key: Key, who: Caller, seconds=0.0) -> int:
    return book_grant(key, who, NOTHING_KNOWN, after(seconds))


def test_a_grant_pays_for_one_interval():
    key, who = known_key(grants=6, paid_mono=NOW.mono), caller(mode="slow", paid_mono=NOW.mono)
    assert booked(key, who, 0.5) == key.grants == 7
    assert key.granted_mono == NOW.mono + 0.5
    assert key.paid_mono == pytest.approx(NOW.mono + 0.5 - CREDIT_S)  # the rest is lost
    assert who.program.paid_mono == pytest.approx(NOW.mono + 0.5)
    assert (key.alone, key.opened, key.looks) == (None, None, 0)
    late = known_key(paid_mono=NOW.mono)
    booked(late, caller(), 1 / 90 + 0.005)
    assert late.paid_mono == pytest.approx(NOW.mono + 1 / 90)  # what is caught up


def test_a_grant_moves_the_virtual_times():
    key, who = known_key(virtual=3.0), caller(virtual=4.0)
    key.programs["images"] = who.program
    booked(key, who)
    weight = min(max(SETTINGS.images_share_percent, 1.0), 99.0)
    assert who.program.virtual == pytest.approx(4.0 + 1 / weight)
    assert key.virtual == 4.0
    idle = caller(virtual=0.0)
    key.programs["images"] = idle.program
    booked(key, idle)
    assert idle.program.virtual == pytest.approx(4.0 - 10 / weight + 1 / weight)
    assert key.virtual == 4.0


def test_a_grant_ends_a_hold_that_is_over_and_counts_a_look():
    key = known_key(hold=Hold(NOW, 5.0, "429"), spent=NOW, looks=2)
    booked(key, caller(), 4)
    assert key.hold is not None
    booked(key, caller(), 5)
    assert key.hold is None
    assert (key.looks, key.looked) == (4, after(5))


def test_the_first_call_into_the_unknown_and_one_after_a_429_go_alone():
    key = Key()
    booked(key, caller())
    assert (key.opened, key.alone, key.alone_number) == (NOW, NOW, 1)
    booked(key, caller(), DAY_S)
    assert key.alone == NOW
    booked(key, caller(), DAY_S + 1)
    assert (key.opened, key.alone, key.alone_number) == (after(DAY_S + 1), after(DAY_S + 1), 3)
    tried = known_key(trial=True)
    booked(tried, caller())
    assert (tried.opened, tried.alone, tried.alone_number) == (None, NOW, 1)


def test_a_day_that_is_spent_and_one_that_is_not_any_more():
    key = known_key(remaining=50, looks=3)
    notice = note_spent(key, SETTINGS, NOTHING_KNOWN, NOW)
    assert (notice.kind, notice.level) == ("spent", None)
    assert notice.message == spent_message(key, NOTHING_KNOWN, NOW)
    assert notice.message.startswith("the day's calls are spent (50 of 5,000 left); waiting until ")
    assert (key.spent, key.looked, key.looks) == (NOW, NOW, 0)
    assert note_spent(key, SETTINGS, NOTHING_KNOWN, after(1)) is None
    assert key.spent == NOW
    key.remaining = 51
    notice = note_spent(key, SETTINGS, NOTHING_KNOWN, after(2))
    assert (notice.kind, notice.level) == ("freed", logging.INFO)
    assert notice.message == "there are calls again (51 of 5,000 left)"
    assert (key.spent, key.looked) == (None, None)
    assert note_spent(key, SETTINGS, NOTHING_KNOWN, after(3)) is None


def test_a_spent_day_that_nothing_was_heard_of_for_a_day_ends_without_a_word():
    key = known_key(remaining=0, spent=NOW, limit_per_day=None)
    assert "(0 of an unknown number left)" in spent_message(key, NOTHING_KNOWN, NOW)
    assert note_spent(key, SETTINGS, NOTHING_KNOWN, after(DAY_S + 1)) is None
    assert key.spent is None


def test_until_when_a_day_is_spent():
    key = known_key(remaining=0, spent=NOW, looked=NOW)
    assert spent_until(key, NOTHING_KNOWN, after(10)) == NOW.wall + LOOK_LAST_S
    ours = Facts(oldest_bucket=int((NOW.wall - DAY_S) // BUCKET_S) + 40)
    assert spent_until(key, ours, NOW) == own_calls_free_at(ours) > NOW.wall
    gone = Facts(oldest_bucket=int((NOW.wall - DAY_S) // BUCKET_S) - 40)
    assert spent_until(key, gone, NOW) == NOW.wall + look_in_s(key, gone, NOW)
    key.hold = Hold(NOW, 77.0, "429")
    assert spent_until(key, ours, after(7)) == NOW.wall + 77
    assert spent_until(key, ours, after(77)) == own_calls_free_at(ours)
