"""Etsy's two rate limits: calls in any second, and calls in a sliding day of twelve buckets."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

__all__ = ["Admission", "Limits"]

_BUCKETS = 12


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a call is allowed, and the headers of its answer."""

    allowed: bool
    headers: dict[str, str]


class Limits:
    """Counts calls by their time of arrival."""

    def __init__(self, qps: int, qpd: int, day_s: float, *, free_429: bool = False) -> None:
        self.qps = qps
        self.qpd = qpd
        self.free_429 = free_429
        self.retry_after_s = 0
        self._bucket_s = day_s / _BUCKETS
        self._second: deque[float] = deque()
        self._day: dict[int, int] = {}
        self._refused = 0

    def take(self, now: float) -> Admission:
        """Count one call, and return whether it is allowed."""
        self._forget(now)
        used = sum(self._day.values())
        if used >= self.qpd:
            return self._refuse(now, self._day_wait(now))
        if len(self._second) >= self.qps:
            return self._refuse(now, 1)
        self._second.append(now)
        self._count(now)
        return Admission(allowed=True, headers=self._headers())

    def refusal_headers(self, retry_after_s: int) -> dict[str, str]:
        """Return a 429's headers; every second one lacks all but `retry-after`."""
        self._refused += 1
        headers = {"retry-after": str(self.retry_after_s or retry_after_s)}
        return headers if self._refused % 2 == 0 else {**self._headers(), **headers}

    def used_today(self, now: float) -> int:
        """Return the number of calls in the current day's window."""
        self._forget(now)
        return sum(self._day.values())

    def _refuse(self, now: float, wait_s: int) -> Admission:
        if not self.free_429:
            self._count(now)
        return Admission(allowed=False, headers=self.refusal_headers(wait_s))

    def _count(self, now: float) -> None:
        bucket = int(now // self._bucket_s)
        self._day[bucket] = self._day.get(bucket, 0) + 1

    def _forget(self, now: float) -> None:
        while self._second and self._second[0] <= now - 1.0:
            self._second.popleft()
        oldest = int(now // self._bucket_s) - _BUCKETS
        for bucket in [b for b in self._day if b <= oldest]:
            del self._day[bucket]

    def _day_wait(self, now: float) -> int:
        if not self._day:
            return math.ceil(self._bucket_s)  # a day's limit of 0
        leaves_at = (min(self._day) + _BUCKETS) * self._bucket_s
        return max(1, math.ceil(leaves_at - now))

    def _headers(self) -> dict[str, str]:
        today = max(0, self.qpd - sum(self._day.values()))
        return {
            "x-limit-per-second": str(self.qps),
            "x-remaining-this-second": str(max(0, self.qps - len(self._second))),
            "x-limit-per-day": str(self.qpd),
            "x-remaining-today": str(today),
        }
