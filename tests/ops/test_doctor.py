"""The doctor sees what is wrong, says what to do, and fails only where a sync would."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from kept_world import NOW, KeptHome
from support.sync_world import Home, small_sandbox

from furnisync.catalog.schema import MIGRATIONS
from furnisync.config import ApiKey, Environment, ImageSettings, Settings, read_settings
from furnisync.crawl.plan_file import TEMPLATE as PLAN
from furnisync.lockfile import single_instance
from furnisync.ops.checks import doctor
from furnisync.ops.checks.doctor_online import _check_clock, check_sleep
from furnisync.ops.service.service import ServiceState
from furnisync.quota.ledger import Event, QuotaState
from furnisync.status.images import Activity


@pytest.fixture
def home(tmp_path):
    return KeptHome(tmp_path / "home").make()


def verdicts(checks):
    return {one.name: one.verdict for one in checks}


@pytest.fixture(scope="module")
def sandbox():
    with small_sandbox(shops=2, listings=4) as found:
        yield found


def ask(home, **env):
    home.env = env
    ended = home.run("doctor", "--json")
    checks = {one["name"]: one for one in json.loads(ended.out.splitlines()[-1])}
    return ended.status, checks


def test_a_healthy_home(tmp_path, sandbox):
    home = Home(tmp_path / "home", sandbox)
    sandbox.reset_asked()
    status, checks = ask(home)
    assert (status, checks["key"]["verdict"], checks["clock"]["verdict"]) == (0, "ok", "ok")
    assert {one["verdict"] for one in checks.values()} <= {"ok", "warn"}
    assert sandbox.asked()["calls"]["openapi-ping"]["200"] == 1


def test_a_refused_key_and_a_wrong_clock(tmp_path, sandbox):
    home = Home(tmp_path / "home", sandbox)
    status, checks = ask(home, ETSY_SHARED_SECRET="wrong")
    assert (status, checks["key"]["verdict"]) == (1, "fail")
    assert "developers/your-apps" in checks["key"]["remedy"]
    status, checks = ask(home, FURNISYNC_CLOCK_OFFSET_S="-7200")
    assert (status, checks["clock"]["verdict"]) == (1, "fail")
    assert "behind Etsy's" in checks["clock"]["message"]


def test_no_key_and_broken_settings(tmp_path):
    home = Home(tmp_path / "home", None)
    status, checks = ask(home)
    assert (status, checks["key"]["verdict"]) == (1, "fail")
    (home.path / "furnisync.toml").write_text("[images]\nsize = 'huge'\n")
    status, checks = ask(home)
    assert (status, checks["settings"]["verdict"]) == (1, "fail")
    assert "images.size" in checks["settings"]["remedy"]


def test_a_broken_crawl_plan(tmp_path):
    home = Home(tmp_path / "home", None)
    home.sync("--fast")  # ends without a key; makes the home
    plan = {"taxonomies": [{"id": 967, "name": "Furniture", "price_breaks": [0, "49,5", 900]}]}
    (home.path / PLAN).write_text(json.dumps(plan))
    status, checks = ask(home)
    assert (status, checks["crawl plan"]["verdict"]) == (1, "fail")
    assert "'49,5' is not a price in US dollars: write a number" in checks["crawl plan"]["message"]


@pytest.mark.parametrize(
    ("behind", "verdict"), [(None, "ok"), (3, "ok"), (-90, "warn"), (90, "warn"), (-4000, "fail")]
)
def test_clock(behind, verdict):
    assert _check_clock(behind).verdict == verdict


def test_disk_against_what_is_to_come(home):
    def check(least_mb):
        settings = Settings(images=ImageSettings(min_free_mb=least_mb))
        return doctor.check_disk(home.files, settings, home.clock)

    assert check(0).verdict == "ok"
    assert check(1e12).verdict == "fail"
    home.change("UPDATE counters SET value = 1000000000000 WHERE name = 'images.bytes'")
    home.change("UPDATE counters SET value = 10000 WHERE name = 'images.pending'")
    assert check(0).verdict == "warn"
    assert "10,000 images that are due" in check(0).message


def test_permissions(home, monkeypatch):
    monkeypatch.chdir(home.files.home)
    environment = Environment(home.files.home, "http://x", frozenset({"x"}), None)
    told = home.files.settings
    told.write_text('notices.urls = ["json://user:hunter2@127.0.0.1"]\n')
    told.chmod(0o600)
    settings = read_settings(told)
    assert verdicts(doctor.check_permissions(environment, home.files, settings)) == {
        "secrets": "ok", "databases": "ok",
    }  # fmt: skip
    told.chmod(0o644)
    found = list(doctor.check_permissions(environment, home.files, settings))
    assert f"chmod 600 {told}" in found[0].remedy
    assert next(doctor.check_permissions(environment, home.files, Settings())).verdict == "ok"
    told.chmod(0o600)
    secrets = home.files.home / ".env"
    secrets.write_text("ETSY_API_KEY=a\n")
    secrets.chmod(0o644)
    home.files.history.chmod(0o640)
    found = list(doctor.check_permissions(environment, home.files, settings))
    assert verdicts(found) == {"secrets": "warn", "databases": "warn"}
    assert f"chmod 600 {secrets}" in found[0].remedy


def test_databases(home):
    def verdict(name):
        return verdicts(doctor.check_databases(home.files))[name]

    assert (verdict("catalog.db"), verdict("etsy_data.db"), verdict("quota.db")) == ("ok",) * 3
    home.change(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    assert verdict("catalog.db") == "fail"
    home.change("PRAGMA user_version = 1")
    assert verdict("catalog.db") == "ok"
    home.files.history.write_bytes(b"no database" * 1000)
    assert verdict("etsy_data.db") == "fail"


def test_locks(home):
    def checks():
        return {one.name: one for one in doctor.check_locks(home.files, home.clock)}

    assert verdicts(checks().values()) == {"image sync": "ok", "data sync": "ok"}
    home.files.lock("data").write_text("4711\n")
    assert "killed" in checks()["data sync"].message
    with single_instance(home.files.lock("images"), "image sync"):
        assert "runs (pid" in checks()["image sync"].message
        activity = Activity("slow", "reading", NOW, NOW - 3600)
        home.change(
            "INSERT INTO meta VALUES ('activity', ?)",
            json.dumps({name: getattr(activity, name) for name in activity.__struct_fields__}),
        )
        found = checks()["image sync"]
        assert (found.verdict, "kill" in found.remedy) == ("fail", True)


def test_quota():
    ours = {"limit_per_second": 5, "limit_per_day": 5000, "used_last_day": 1000}
    full = QuotaState(**ours, remaining_today=4000)
    cut = QuotaState(
        **ours,
        remaining_today=4000,
        events=(Event(NOW - 86_400, "limit-fell", "Etsy lowered the limit"),),
    )
    low = QuotaState(limit_per_second=5, limit_per_day=5000, remaining_today=10)
    shared = QuotaState(**ours, remaining_today=2500)
    found = [doctor._check_limits(one, NOW) for one in (full, cut, low, shared)]
    assert [one.verdict for one in found] == ["ok", "warn", "warn", "warn"]
    assert "Something else spent 1,500 calls of this key" in found[3].remedy


def test_quota_of_another_key_is_not_ours(home):
    environment = Environment(home.files.home, "http://x", frozenset(), ApiKey("a", "b"))
    assert doctor.check_quota(home.files, environment, home.clock).message.startswith("not known")


class Supervised:
    def __init__(self, **states):
        self.states = states

    def state(self, job):
        return self.states.get(job, ServiceState(job, None))


def test_services():
    found = doctor.check_services(
        Supervised(data=ServiceState("data", Path("/home"), last_exit="exit status 1"))
    )
    assert verdicts(found) == {"service images": "ok", "service data": "warn"}
    assert verdicts(doctor.check_services(None)) == {"services": "warn"}


@pytest.mark.parametrize(
    ("told", "services", "verdict"),
    [
        (" sleep                10 (sleep prevented by x)\n", False, "warn"),
        (" displaysleep 5\n sleep                0\n", False, "ok"),
        (" sleep                10\n", True, "ok"),
        ("nothing\n", False, "warn"),
    ],
)
def test_a_mac_that_sleeps(told, services, verdict):
    def pmset(*command):
        assert command == ("pmset", "-g")
        return subprocess.CompletedProcess(command, 0, told, "")

    assert check_sleep("darwin", services=services, ask=pmset).verdict == verdict
    assert check_sleep("linux", services=services) is None


def test_an_old_curl_or_one_without_https():
    whole = (0, "8.1.0", 0, "x", 0, "OpenSSL", 0, "z", ("http", "https"))
    old = (0, "7.60.0", 0, "x", 0, "OpenSSL", 0, "z", ("http", "https"))
    bare = (0, "8.1.0", 0, "x", 0, None, 0, "z", ("http",))
    assert [doctor._check_curl(one).verdict for one in (whole, old, bare)] == ["ok", "warn", "fail"]
