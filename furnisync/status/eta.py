"""How long the remaining calls take at the current quota, and durations in words. Pure."""

from furnisync.clock import DAY_S
from furnisync.quota.report import QuotaState


def seconds_for_calls(calls: int, quota: QuotaState | None, share: float = 1.0) -> float | None:
    """Estimate the seconds that calls take; None where the quota is not known.

    Calls that are left of the day go at the current rate, the others at the day's rate: the day is
    a sliding window, which frees calls at the rate at which they were made.

    Args:
        calls: still to be made.
        quota: as in the ledger.
        share: the part of all calls that this work gets, 0 to 1.
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


def duration(seconds: float) -> str:
    """An approximate duration in the unit that reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / DAY_S:.1f} days"
