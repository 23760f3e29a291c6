"""When the work that is left will be done, by the quota as it stands. Pure."""

from furnisync.clock import DAY_S
from furnisync.quota.report import QuotaState


def seconds_for_calls(calls: int, quota: QuotaState | None, share: float = 1.0) -> float | None:
    """Seconds until so many calls are answered; None where the quota is not known.

    What is left of the day goes at the present rate; beyond that, calls come at the day's rate,
    since a sliding day frees them as they were spent.

    Args:
        calls: still to be made.
        quota: as the ledger knows it.
        share: the part of the calls that this work gets.
    """
    if calls <= 0:
        return 0.0
    if quota is None or (not quota.rate_per_second and quota.limit_per_day is None):
        return None
    rate = max(quota.rate_per_second, 1e-3) * share
    if quota.limit_per_day is None or quota.remaining_today is None:
        return calls / rate
    at_once = max(0.0, (quota.remaining_today - quota.reserve) * share)
    if calls <= at_once:
        return calls / rate
    by_day = max(1.0, (quota.limit_per_day - quota.reserve) * share)
    return at_once / rate + (calls - at_once) / by_day * DAY_S
