"""Twenty minutes of what months bring, in one go: see `Soak` for the script.

FURNISYNC_SOAK_MINUTES=3 pytest tests/soak     # the same script in less time, a smaller world
FURNISYNC_SOAK_SEED=7 pytest tests/soak        # the world and the kills of a run that printed 7
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from random import Random

import pytest
from soak_log import FELT, Diary, explain, outages
from soak_truth import check_history, check_image_files
from soak_world import MB, Supervised, World, median_mb
from support import collect_world, sync_world

from furnisync.ops.service.service import Job
from furnisync.sandbox.process import SandboxProcess

MINUTES = max(3.0, float(os.environ.get("FURNISYNC_SOAK_MINUTES", "20")))
"""In less no process lives long enough to tell its memory."""
SEED = int(os.environ.get("FURNISYNC_SOAK_SEED", "0")) or Random().randrange(1, 10**6)
SCRIPT_MINUTES = 20
DISK_MB = 200
QPS, QPD = 20, 100_000
"""Of the limit a second the settings leave a third unused: on a busy machine calls that leave
evenly arrive in clumps, and no refusal shall hang on that."""
DAY_SPENT = "the day's calls are spent"
REFUSED_MOST = 3
"""Calls that may be refused when the quota is cut, since no header told of it: one of each program
that is out just then, and one that leaves before the first refusal stands in the ledger."""
GROWTH_MOST_MB = 10.0
"""So much more memory late than early: SQLite's page caches fill in the first minutes of a life,
and the data grow by a fifth."""

SETTINGS = """
[quota]
slow_per_second = 6.0
spread_s = 60.0
[images]
slow_per_second = 60.0
min_free_mb = 2.0
max_bytes = 300000
timeout_s = 3.0
metadata_every_s = 15.0
[crawl]
look_every_s = 20.0
[api]
timeout_s = 3.0
"""
API_DEEDS = (
    {"do": "500"}, {"do": "502"}, {"do": "503", "body": "html"}, {"do": "503", "retry_after": 1},
    {"do": "429", "retry_after": 1}, {"do": "429", "retry_after": 1, "headers": False},
    {"do": "reset"}, {"do": "reset_mid_body"}, {"do": "hang"}, {"do": "slow", "seconds": 0.5},
    {"do": "malformed_json"}, {"do": "no_results"}, {"do": "null_results"}, {"do": "wrong_types"},
    {"do": "null_fields"}, {"do": "count_off", "factor": 0.5}, {"do": "count_off", "factor": 2.0},
    {"do": "duplicates"}, {"do": "missing_items"}, {"do": "no_rate_headers"},
)  # fmt: skip
CDN_DEEDS = (
    {"do": "404"}, {"do": "410"}, {"do": "500"}, {"do": "503", "retry_after": 1},
    {"do": "429", "retry_after": 1}, {"do": "reset"}, {"do": "reset_mid_body"}, {"do": "hang"},
    {"do": "slow", "seconds": 0.5}, {"do": "truncated"}, {"do": "empty"}, {"do": "html_200"},
    {"do": "garbage"}, {"do": "cut_jpeg"}, {"do": "endless"}, {"do": "redirect"},
)  # fmt: skip
FAULTY_SHARE = 0.02
SPELLS = {
    "a login page": ("Etsy's API", {"where": "api", "do": "login_page"}),
    "junk": ("the image server", {"where": "cdn", "do": "html_200"}),
    "one picture": ("the image server", {"where": "cdn", "do": "same_picture"}),
}
"""Whole upstreams that are broken for a while, and who is to be named."""
QUIET = {"per_hour": 0.0, "reviews_per_hour": 0.0}
BUSY = {"per_hour": 0.2, "reviews_per_hour": 600.0}
WHILE_OFF = {"per_hour": 0.0003, "reviews_per_hour": 1.0}
"""A tenth of the listings changes in 15 days."""


def fault_rules() -> list[dict[str, object]]:
    sides = {"api": API_DEEDS, "cdn": CDN_DEEDS}
    return [
        {"where": where, "share": FAULTY_SHARE / len(deeds), **deed}
        for where, deeds in sides.items()
        for deed in deeds
    ]


class Soak:
    """The script, by minutes of the twenty; a shorter run keeps the proportions.

     minute
          0  both services start on an empty home; churn, new reviews and faults from now on
      0.5-2  image sync is killed at a random instant
          4  15 days later; a shop has closed
    4.3-5.5  data sync is killed at a random instant
    5.6-6.4  the API answers every call with a login page
          8  16 days later; all of furniture is due again, and
      8-8.8  the image server answers with junk
     9-10.2  the disk is full
         11  15 days later, and
    11-11.8  the image server answers with one picture for all
    12-13.5  the day's calls are cut below what is used, then raised, 2 days later
         14  31 days later; then six minutes of mere faults, in which memory must stay
         20  faults and churn end, the shop is back; 190 days later all is due, static fields too;
            until nothing is
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sandbox = world.sandbox
        self.diary = Diary()
        self.random = Random(SEED)
        self.refused_at_cut = 0
        self.closed = 0
        self.spells: list[tuple[str, float, float]] = []

    def at(self, minute: float) -> None:
        """Live up to a minute of the script."""
        self.world.live_until(minute * 60 * MINUTES / SCRIPT_MINUTES)

    def run(self) -> None:
        self.diary.begin("faults")
        self.sandbox.set_faults(fault_rules())
        self.sandbox.churn(**BUSY)
        with self.diary.during("begin"):
            self.world.start()
            self.at(0.5)
        self.kill("images", 0.5, 2)
        self.at(4)
        self.closed = next(
            row["shop_id"]
            for row in self.sandbox.truth_shops()
            if row["findable"] and row["active"]
        )
        self.turn_shop(gone=True)
        self.move(15)
        self.kill("data", 4.3, 5.5)
        self.at(5.6)
        self.spell("a login page", until=6.4)
        self.at(8)
        self.spell("junk", days=16, until=8.8)
        self.at(9)
        self.fill_disk(until=10.2)
        self.at(11)
        self.spell("one picture", days=15, until=11.8)
        self.at(12)
        self.cut_quota(until=13.5)
        self.at(14)
        self.move(31)
        self.at(SCRIPT_MINUTES)

    def kill(self, job: Job, first: float, last: float) -> None:
        self.at(first + (last - first) * self.random.random())
        service = self.world.services[job]
        with self.diary.during("kill"):
            print(f"{self.second():.0f} s: kill -9 {job}")
            service.kill()
            self.world.until(lambda: service.restarts, service.unit.restart_s + 15, "restart")

    def move(self, days: float) -> None:
        """What would change in real time while days go by would be too much; and the reverse."""
        print(f"{self.second():.0f} s: {days} days later")
        self.sandbox.churn(**WHILE_OFF)
        self.world.move(days)
        self.sandbox.churn(**BUSY)

    def spell(self, name: str, until: float, days: float = 0.0) -> None:
        """A whole upstream is broken for a while; where `days` is given, after so many days."""
        upstream, fault = SPELLS[name]
        print(f"{self.second():.0f} s: {upstream} sends {name}")
        with self.diary.during("spell"):
            began = int(time.time())
            self.sandbox.set_faults([fault, *fault_rules()])
            if days:
                self.move(days)
            self.world.until(lambda: self.told(upstream, began), 120, "a log tells that it began")
            self.at(until)
            self.sandbox.set_faults(fault_rules())
            self.spells.append((upstream, began, time.time()))

    def told(self, upstream: str, since: float) -> bool:
        """Whether a log says that something broke since a time."""
        logs = [outages(service.words()) for service in self.world.services.values()]
        return any(at >= since and who == upstream for lines in logs for at, who, _ in lines)

    def turn_shop(self, *, gone: bool) -> None:
        self.sandbox.churn({"op": "shop", "shop_id": self.closed, "fields": {"gone": gone}})

    def fill_disk(self, until: float) -> None:
        with self.diary.during("disk"):
            print(f"{self.second():.0f} s: the disk is full")
            self.world.disk.fill()
            self.at(until)
            self.world.disk.fill()
            print(f"{self.second():.0f} s: the disk is free")
            self.world.disk.free()

    def cut_quota(self, until: float) -> None:
        with self.diary.during("quota"):
            before = self.sandbox.asked()
            print(f"{self.second():.0f} s: {before['used_today']} calls used, the day is cut")
            self.sandbox.set_limits(qpd=before["used_today"] // 2)
            self.world.until(lambda: self.asked("refused") > before["refused"], 60, "a refusal")
            self.world.until(self.knows_that_the_day_is_spent, 60, "the ledger knows")
            spent = self.sandbox.asked()
            self.at(until)
            after = self.sandbox.asked()
            self.refused_at_cut = after["refused"] - before["refused"]
            assert after["total"] == spent["total"], "a call was made though the day was spent"
            assert self.refused_at_cut <= REFUSED_MOST
            self.sandbox.set_limits(qpd=QPD)
            self.move(2)
            self.world.until(lambda: self.asked("total") > after["total"], 60, "calls go on")

    def knows_that_the_day_is_spent(self) -> bool:
        """A 429 without headers only makes it wait a little, and then one more call is refused."""
        quota = self.status()["quota"]
        return quota["waiting_why"] == DAY_SPENT and not quota["in_flight"]

    def asked(self, what: str) -> int:
        return int(self.sandbox.asked()[what])

    def second(self) -> float:
        return time.monotonic() - self.world.began

    # -- the end -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything becomes due once more, undisturbed; until nothing is."""
        struck = [rule for rule in self.sandbox.asked()["faults"] if rule["done"]]
        print(f"faults: {sum(rule['done'] for rule in struck)} of {len(struck)} kinds")
        assert {rule["where"] for rule in struck} == {"api", "cdn"}
        self.sandbox.set_faults([])
        self.sandbox.churn(**QUIET)
        self.turn_shop(gone=False)
        self.diary.end("faults")
        self.world.move(190)
        self.world.until(self.images_settled, 300 + 60 * MINUTES, "image sync has nothing due")
        # Data sync asks the catalog for new shops when a round begins.
        self.world.stop("data")
        self.world.start("data")
        self.world.until(self.data_settled, 300 + 60 * MINUTES, "data sync has nothing due")
        self.world.stop()

    def images_settled(self) -> bool:
        status = self.status()
        found = status["current_pass"]
        return (
            found["complete"]
            and found["started_at"] > self.sandbox.now() - 86_400
            and not status["batches_waiting"]
            and not status["images_due"]
            and not status["images"].get("pending")
        )

    def data_settled(self) -> bool:
        """Its round is over; it ends only when nothing is due."""
        life = self.world.services["data"].words().rpartition("service starts")[2]
        return "INFO synced " in life

    def status(self) -> dict:
        found = self.world.run("status", "--json")
        assert found.returncode == 0, found.stdout + found.stderr
        return json.loads(found.stdout)


@pytest.fixture
def soak(tmp_path):
    size = {"shops": int(12 * MINUTES), "listings": int(150 * MINUTES), "reviews_mean": 20}
    images = {"images_mean": 2, "image_bytes": 3000, "pictures": 8}
    with SandboxProcess(**size, **images, qps=QPS, qpd=QPD, seed=SEED) as sandbox:
        world = World.make(tmp_path, sandbox, SETTINGS, DISK_MB)
        try:
            yield Soak(world)
        finally:
            world.close(keep_logs_in=tmp_path / "logs")


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES * 2 + 900)
def test_soak(soak, tmp_path):
    print(f"\nFURNISYNC_SOAK_SEED={SEED} FURNISYNC_SOAK_MINUTES={MINUTES:g}")
    soak.run()
    script_ended = time.monotonic()
    soak.settle()
    print(f"{soak.second():.0f} s: nothing is due any more")
    check_calls(soak)
    for service in soak.world.services.values():
        check_life(service)
        check_memory(service, soak.world.began, script_ended)
        assert (tmp_path / f"{service.job}.journal").read_text() == "", "said outside the log"
    check_data(soak, tmp_path)
    check_logs(soak)


def check_calls(soak: Soak) -> None:
    """No limit was met but by the cut, which nobody could know of; the CDN never saw the key."""
    asked = soak.sandbox.asked()
    print(f"calls: {asked['total']}, {asked['calls']}; CDN: {asked['cdn']}")
    print(f"most calls in a second: {asked['most_in_a_second']}; refused: {asked['refused']}")
    assert asked["refused"] == soak.refused_at_cut
    assert asked["cdn"]["leaked_key"] == 0


def check_life(service: Supervised) -> None:
    """One kill, one restart, and no other death."""
    print(f"{service.job}: {service.lives} lives, {service.restarts} restarts")
    assert (service.crashes, service.restarts) == ([-9], 1)


def check_memory(service: Supervised, began: float, ended: float) -> None:
    """Flat from the second quarter to the last, and from the first third of a long life on."""
    quarter = (ended - began) / 4
    second = median_mb(service.samples, began + quarter, began + 2 * quarter)
    last = median_mb(service.samples, ended - quarter, ended)
    long_life = max(one.life for one in service.samples if one.at_s < ended)
    living = [one for one in service.samples if one.life == long_life and one.at_s < ended]
    born, third = living[0].at_s, (ended - living[0].at_s) / 3
    early, late = median_mb(living, born, born + third), median_mb(living, ended - third, ended)
    print(
        f"{service.job}: RSS median {second:.1f} MB in quarter 2, {last:.1f} MB in quarter 4;"
        f" {early:.1f} MB in the first third of the long life, {late:.1f} MB in the last"
    )
    assert last <= second + GROWTH_MOST_MB
    assert late <= early + GROWTH_MOST_MB


def check_logs(soak: Soak) -> None:
    """Every line of both logs is explained, and every trouble left its lines."""
    strange: list[str] = []
    said: set[str] = set()
    for service in soak.world.services.values():
        kinds, found = explain(service.words(), soak.diary)
        print(f"{service.job}: log lines {dict(kinds)}")
        said |= {kind.partition(":")[0] for kind in kinds}
        strange += found
    assert not strange, "\n".join([f"{len(strange)} unexplained lines:", *strange[:30]])
    assert said.issuperset(FELT)
    check_spells(soak)


def check_spells(soak: Soak) -> None:
    """Each spell was told, by no log twice, and so was its end; between spells nothing was."""
    logs = {job: outages(service.words()) for job, service in soak.world.services.items()}
    starts = [began for _, began, _ in soak.spells]
    for (upstream, began, ended), next_one in zip(
        soak.spells, [*starts[1:], math.inf], strict=True
    ):
        told = {
            job: [begins for at, who, begins in lines if began <= at < next_one and who == upstream]
            for job, lines in logs.items()
        }
        print(f"{upstream} broken for {ended - began:.0f} s: {told}")
        assert [True, False] in told.values()
        assert all(one in ([], [True, False]) for one in told.values())
    assert all(lines[0][0] >= starts[0] for lines in logs.values() if lines)


def check_data(soak: Soak, tmp_path: Path) -> None:
    """All that the sandbox shows is here as it is, and the program's own checks say the same."""
    for command in (("verify", "--sha256"), ("coverage",)):
        told = soak.world.run(*command)
        assert told.returncode == 0, told.stdout + told.stderr
    copy = soak.world.take_home(tmp_path / "copy")
    kept = sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())
    print(f"home: {kept / MB:.1f} MB")
    images = sync_world.served(soak.sandbox)
    home = sync_world.Home(copy, soak.sandbox)
    check_image_files(home, images)
    sync_world.check_metadata(home, images)
    history = collect_world.Home(copy, soak.sandbox)
    check_history(history, collect_world.Truth(soak.sandbox), soak.sandbox.now())
