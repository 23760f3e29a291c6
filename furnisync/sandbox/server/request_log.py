"""Records the requests to the sandbox, so that tests can count calls."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

__all__ = ["RequestLog"]

_LOG_ENTRIES = 500_000


class RequestLog:
    """Counts and logs of both servers since the start or the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Delete all entries and counts."""
        self._total = 0
        self._refused = 0
        self._calls: dict[str, Counter[str]] = {}
        self._log: deque[dict[str, Any]] = deque(maxlen=_LOG_ENTRIES)
        self._cdn_log: deque[tuple[float, str, str]] = deque(maxlen=_LOG_ENTRIES)
        self._cdn = Counter[str]()
        self._arrivals: deque[float] = deque()
        self._most_in_second = 0
        self._leaked_key = 0
        self._connections = 0
        self._most_connections = 0

    def begin(self, now: float, call: str, query: dict[str, str], path: str) -> dict[str, Any]:
        """Record the arrival of an API call; `end` sets the status of the entry."""
        self._total += 1
        self._arrivals.append(now)
        while self._arrivals[0] <= now - 1.0:
            self._arrivals.popleft()
        self._most_in_second = max(self._most_in_second, len(self._arrivals))
        entry = {"time": now, "call": call, "path": path, "query": query, "status": "open"}
        self._log.append(entry)
        return entry

    def end(self, entry: dict[str, Any], status: str, fault: str | None = None) -> None:
        """Record how a call ended: a status, or the name of the fault that ended it."""
        entry["status"] = status
        if fault:
            entry["fault"] = fault
        elif status == "429":
            self._refused += 1
        self._calls.setdefault(entry["call"], Counter())[status] += 1

    def cdn(self, now: float, path: str, status: str, *, has_key: bool) -> None:
        """Record a request to the CDN."""
        self._cdn[status] += 1
        self._leaked_key += has_key
        self._cdn_log.append((now, path, status))

    def cdn_connection(self, change: int) -> None:
        """Record that a connection to the CDN opened (1) or closed (-1)."""
        self._connections = max(0, self._connections + change)
        self._most_connections = max(self._most_connections, self._connections)

    def as_json(self, *, with_log: bool, with_cdn_log: bool) -> dict[str, Any]:
        """Return the counts, and the logs on request.

        `total` counts arrivals, also those without an answer yet. `refused` counts the 429s of
        the limits, without those of fault rules.
        """
        statuses = sum(self._calls.values(), Counter[str]())
        body: dict[str, Any] = {
            "total": self._total,
            "calls": {name: dict(counts) for name, counts in sorted(self._calls.items())},
            "statuses": dict(statuses),
            "refused": self._refused,
            "most_in_a_second": self._most_in_second,
            "cdn": {
                "total": sum(self._cdn.values()),
                "statuses": dict(self._cdn),
                "leaked_key": self._leaked_key,
                "most_connections": self._most_connections,
            },
        }
        if with_log:
            body["log"] = list(self._log)
        if with_cdn_log:
            body["cdn_log"] = [
                {"time": t, "path": path, "status": status} for t, path, status in self._cdn_log
            ]
        return body
