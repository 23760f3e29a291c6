"""What is kept, as a pure rule."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from furnisync.ops.backup.archive import backup_name, named_at
from furnisync.ops.backup.backup import Keep, plan_keeping

DAY = 86_400
NOW = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp())  # a Friday


def kept(ages_days, keep):
    made = {f"b{age:07.3f}": NOW - int(age * DAY) for age in ages_days}
    return sorted(float(name[1:]) for name in plan_keeping(made, NOW, keep))


def test_nightly_backups_thin_out():
    found = kept(range(100), Keep(days=7, weeks=4))
    # Seven days back to Saturday the 14th, then the Sundays that ended the two weeks before.
    assert found == [0, 1, 2, 3, 4, 5, 6, 12, 19]


def test_all_of_the_last_day_stay_and_the_newest_of_each_day_before():
    found = kept([0, 0.1, 0.2, 0.9, 1.1, 1.2, 2.0, 2.1], Keep(days=3, weeks=0))
    assert found == [0, 0.1, 0.2, 0.9, 2.0]  # 1.1 was on the day of 0.9


def test_the_newest_stays_however_old():
    assert kept([400, 500], Keep(days=1, weeks=0)) == [400]


def test_the_turn_of_the_year_is_one_week():
    new_year = int(datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp())
    made = {"old": new_year - DAY, "new": new_year}
    assert plan_keeping(made, new_year + 2 * DAY, Keep(days=1, weeks=1)) == {"new"}


@given(st.lists(st.integers(0, 200 * DAY), max_size=60), st.integers(1, 30), st.integers(0, 20))
def test_keeping_again_keeps_the_same(ages, days, weeks):
    made = {f"{place}": NOW - age for place, age in enumerate(ages)}
    keep = Keep(days, weeks)
    first = plan_keeping(made, NOW, keep)
    assert plan_keeping({name: made[name] for name in first}, NOW, keep) == first
    assert bool(first) == bool(made)
    assert all(name in first for name, at in made.items() if at > NOW - DAY)


def test_names_tell_their_time():
    assert backup_name(NOW, test=False) == "furnisync-20261120T120000Z"
    assert named_at("furnisync-20261120T120000Z", test=False) == NOW
    assert named_at("furnisync-test-20261120T120000Z", test=True) == NOW
    for name in ("furnisync-test-20261120T120000Z", "furnisync-20261320T120000Z", "holiday"):
        assert named_at(name, test=False) is None
