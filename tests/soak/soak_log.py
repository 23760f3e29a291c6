"""What the two services may say in their logs, and when: any other line fails the soak."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) ([A-Z]+) (.*)")
ENDING, ENDED = "stopping: finishing what is in flight", "Stopped. The same command continues from"
ALWAYS = "always"
BROKEN = r"(?P<upstream>Etsy's API|the image server) is broken: .*; it is retried automatically$"
WORKS_AGAIN = r"(?P<upstream>Etsy's API|the image server) works again after \d+ minutes$"


@dataclass(frozen=True)
class Known:
    """A line that belongs to a phase."""

    phase: str
    level: str
    pattern: str

    def explains(self, level: str, words: str) -> bool:
        return level == self.level and re.match(self.pattern, words) is not None


KNOWN = (
    Known(ALWAYS, "INFO", r"the (images|data) service starts \(pid \d+\)$"),
    Known(ALWAYS, "INFO", ENDING),
    Known(ALWAYS, "INFO", r"[\w -]+(\(about .* left\))?; [\d,]+ listings; images: .*; calls: "),
    Known(ALWAYS, "INFO", r"[\d,]+ of [\d,]+ shops synced, [\d,]+ in progress, [\d,]+ due, "),
    Known(ALWAYS, "INFO", r"\d+ shops: \d+ never synced, \d+ due, \d+ in progress$"),
    Known(
        ALWAYS,
        "INFO",
        r"synced [\d,]+ shops with [\d,]+ listing rows, [\d,]+ new reviews; [\d,]+ shops",
    ),
    Known(ALWAYS, "INFO", r"[\d,]+ listings came with the answers to image sync$"),
    Known(ALWAYS, "INFO", r"about [\d,]+ listings: [\d,]+ calls to make"),
    Known(ALWAYS, "INFO", r"\d+ new listings since the last look$"),
    Known(ALWAYS, "INFO", r"image_metadata\.json written: [\d,]+ listings$"),
    # Both services start on an empty home: nobody has told the data service a shop yet.
    Known("begin", "INFO", r"waiting for the first shops: "),
    # Before the first image nobody knows that the sandbox's are small.
    Known("begin", "WARNING", r"the missing images take about .*, but only .* are free: "),
    Known("kill", "INFO", r"the last run did not end cleanly: checking its last \d+ images$"),
    Known("disk", "INFO", r"[^;]+; downloads pause: .*; calls: "),
    Known("disk", "ERROR", r"downloads pause: "),
    Known("disk", "WARNING", r"downloads continue: .* can be written again$"),
    Known("disk", "ERROR", r"the (catalog|history|outbox) waits: there is no room on its disk"),
    Known(
        "disk",
        "WARNING",
        r"the (catalog|history|outbox) continues: there is room on its disk",
    ),
    Known("disk", "WARNING", r".*quota\.db cannot be written \(.*\): no calls until it can$"),
    Known("disk", "ERROR", r".*image_metadata\.json could not be written: .*No space left"),
    Known("quota", "WARNING", r"Etsy lowered the limit per day from [\d,]+ to [\d,]+$"),
    Known("quota", "WARNING", r"Etsy answered 429 and asks to wait until "),
    Known("quota", "WARNING", r"the day's calls are spent \(.*\); waiting until "),
    Known("quota", "INFO", r"Etsy raised the limit per day from [\d,]+ to [\d,]+$"),
    Known("quota", "INFO", r"there are calls again \(.*\)$"),
    Known("spell", "WARNING", BROKEN),
    Known("spell", "WARNING", WORKS_AGAIN),
    Known("spell", "INFO", r"[^;]+; downloads pause: the image server is broken: .*; calls: "),
    Known("faults", "INFO", r"[^;]+; downloads pause: (429|503) from the image server.*; calls: "),
    # What is no listing is left out, and the page is asked for again where it matters.
    Known("faults", "WARNING", r"\d+ results of a page could not be read: "),
    # A call that hangs is in flight when the service is told to end.
    Known("faults", "WARNING", r"\d+ calls in flight are given up$"),
)

AFTER_S = {"faults": 60, "disk": 120, "quota": 60, "kill": 60, "spell": 120}
"""How long after its phase a line may still speak of it: pauses and retries run out."""
FELT = ("kill", "disk", "quota", "spell")
"""Phases of which at least one of the two logs must speak, or the soak did not do what it says."""


class Diary:
    """When which phase was, by the clock that the log lines bear."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._phases: list[tuple[str, float, float]] = []

    @contextmanager
    def during(self, name: str) -> Iterator[None]:
        self.begin(name)
        yield
        self.end(name)

    def begin(self, name: str) -> None:
        self._begun[name] = int(time.time())

    def end(self, name: str) -> None:
        end = time.time() + AFTER_S.get(name, 0)
        self._phases.append((name, self._begun.pop(name), end))

    def at(self, moment: float) -> set[str]:
        """Phases that a line of this moment may speak of."""
        spoken = {name for name, begin, end in self._phases if begin <= moment <= end}
        return spoken | {ALWAYS}


def outages(words: str) -> list[tuple[float, str, bool]]:
    """What a log says of broken upstreams: when, which, and whether that begins or ends."""
    told = []
    for line in words.splitlines():
        if (found := LINE.fullmatch(line)) is None:
            continue
        for pattern, begins in ((BROKEN, True), (WORKS_AGAIN, False)):
            if said := re.match(pattern, found[3]):
                told.append((moment(found[1]), said["upstream"], begins))
    return told


def moment(told_at: str) -> float:
    """The unix seconds of a line's local time."""
    return time.mktime(time.strptime(told_at, "%Y-%m-%d %H:%M:%S"))


def explain(words: str, diary: Diary) -> tuple[Counter[str], list[str]]:
    """Count the lines of a log by kind; the lines that nothing explains."""
    kinds: Counter[str] = Counter()
    strange = []
    ending = False
    for line in words.splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            # At a clean end the whole picture is printed as tables, without times.
            if ending and "Traceback" not in line:
                kinds["closing table"] += 1
                ending = not line.startswith(ENDED)
            else:
                strange.append(line)
            continue
        told_at, level, said = found.groups()
        phases = diary.at(moment(told_at))
        by = [one for one in KNOWN if one.phase in phases and one.explains(level, said)]
        if by:
            kinds[f"{by[0].phase}: {level}"] += 1
        else:
            strange.append(f"{line}   [during {', '.join(sorted(phases))}]")
        ending = ending or said == ENDING
    return kinds, strange
