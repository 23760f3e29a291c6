"""Scripted faults: which requests fail, and how.

A rule is one JSON object:

    {"where": "api" | "cdn", "call": "listings/active", "match": {"offset": "100"},
     "nth": [3, 7] | "every": 50 | "share": 0.02, "sticky": true, "times": 5,
     "do": "503", ...its parameters}

`call` and `match` select the requests that a rule sees; it counts them from 1. `match` compares
query parameters and parts of the path (shop_id, listing_id, image_id, size) with a value or a
list of values; `path` is a substring of the path, `member` an id among those of a batch. `nth`,
`every` or `share` select among those seen, all of them by default. A sticky share depends on the
image or the URL of the call instead of the request's number, so that a repeated request gets the
same result. With `shows`, an id, a rule applies only to answers that have it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

from furnisync.sandbox.prng import share_of

__all__ = ["API_ACTIONS", "CDN_ACTIONS", "Faults", "Rule"]

_CONNECTION_ACTIONS = {"reset", "reset_mid_body", "hang", "slow"}
API_ACTIONS = _CONNECTION_ACTIONS | {
    "malformed_json",
    "no_results",
    "null_results",
    "wrong_types",
    "null_fields",
    "count_off",
    "duplicates",
    "missing_items",
    "no_rate_headers",
    "no_date",
    "odd_date",
    "login_page",
    "page_size",
    "ignore",
}
CDN_ACTIONS = _CONNECTION_ACTIONS | {
    "truncated",
    "empty",
    "html_200",
    "png",
    "webp",
    "gif",
    "garbage",
    "cut_jpeg",
    "endless",
    "redirect",
    "same_picture",
    "tiny",
}
_CHOOSING = {"where", "call", "match", "nth", "every", "share", "sticky", "times", "do"}


@dataclass(slots=True)
class Rule:
    """One rule, and how often it saw and changed a request."""

    where: str
    do: str
    number: int
    call: str | None = None
    match: dict[str, Any] = field(default_factory=dict)
    nth: tuple[int, ...] = ()
    every: int = 0
    share: float | None = None
    sticky: bool = False
    times: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    done: int = 0

    @classmethod
    def read(cls, number: int, raw: dict[str, Any]) -> Rule:
        """Read and check a rule from JSON."""
        where, do = raw.get("where", "api"), str(raw.get("do", ""))
        actions = API_ACTIONS if where == "api" else CDN_ACTIONS
        if where not in ("api", "cdn") or not (do in actions or _is_status(do)):
            raise ValueError(f"fault {number}: {where!r} cannot do {do!r}")
        nth = raw.get("nth", [])
        return cls(
            where=where,
            do=do,
            number=number,
            call=raw.get("call"),
            match=raw.get("match") or {},
            nth=tuple(nth if isinstance(nth, list) else [nth]),
            every=int(raw.get("every") or 0),
            share=raw.get("share"),
            sticky=bool(raw.get("sticky")),
            times=raw.get("times"),
            details={key: value for key, value in raw.items() if key not in _CHOOSING},
        )

    def sees(self, call: str, path: str, facts: dict[str, str]) -> bool:
        """Whether the rule is about such requests."""
        if self.call is not None and self.call != call:
            return False
        for key, wanted in self.match.items():
            values = [str(v) for v in (wanted if isinstance(wanted, list) else [wanted])]
            if key == "path":
                if not any(value in path for value in values):
                    return False
            elif key == "member":
                if not set(values).intersection(facts.get("listing_ids", "").split(",")):
                    return False
            elif facts.get(key) not in values:
                return False
        return True

    def chooses(self, seed: int, key: str) -> bool:
        """Count a request that the rule sees, and return whether it applies."""
        self.seen += 1
        if self.times is not None and self.done >= self.times:
            return False
        applies = self._applies(seed, key)
        self.done += applies
        return applies

    def always_applies(self, seed: int, key: str) -> bool:
        """Whether a rule with a permanent effect applies to this image."""
        lasting = self.times is None and not self.nth and not self.every
        return lasting and (self.share is None or (self.sticky and self._applies(seed, key)))

    def _applies(self, seed: int, key: str) -> bool:
        if self.nth:
            return self.seen in self.nth
        if self.every:
            return self.seen % self.every == 0
        if self.share is None:
            return True
        number = zlib.crc32(key.encode()) if self.sticky else self.seen
        return share_of(seed, self.number, number) < self.share


class Faults:
    """The rules in force."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: dict[str, list[Rule]] = {"api": [], "cdn": []}

    def set(self, rules: list[dict[str, Any]]) -> None:
        """Replace all rules and reset their counts."""
        read = [Rule.read(number, raw) for number, raw in enumerate(rules)]
        self._rules = {where: [r for r in read if r.where == where] for where in ("api", "cdn")}

    def any(self, where: str) -> bool:
        """Whether there is a rule for this server."""
        return bool(self._rules[where])

    def rule_for(self, where: str, call: str, path: str, facts: dict[str, str]) -> Rule | None:
        """Return the first rule that applies to this request; every rule that sees it counts it."""
        key = facts.get("image_id") or f"{path} {sorted(facts.items())}"
        applies: Rule | None = None
        for rule in self._rules[where]:
            if not rule.sees(call, path, facts):
                continue
            if applies:
                rule.seen += 1
            elif rule.chooses(self._seed, key):
                applies = rule
        return applies

    def permanent(self, path: str, facts: dict[str, str]) -> Rule | None:
        """Return the rule that applies to every request of an image, for the truth."""
        for rule in self._rules["cdn"]:
            if rule.sees("image", path, facts) and rule.always_applies(
                self._seed, facts["image_id"]
            ):
                return rule
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """Return the counts of each rule."""
        rules = [rule for where in ("api", "cdn") for rule in self._rules[where]]
        return [
            {"number": r.number, "where": r.where, "do": r.do, "seen": r.seen, "done": r.done}
            for r in sorted(rules, key=lambda r: r.number)
        ]


def _is_status(do: str) -> bool:
    return do.isdigit() and 400 <= int(do) <= 599
