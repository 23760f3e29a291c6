"""Notices reach a real server, each once a day, and never hurt what they are about."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from kept_world import DAY, NOW, KeptHome
from support.processes import ROOT
from support.sync_world import Home, small_sandbox

from furnisync.config import ImageSettings, NoticeSettings, QuotaSettings, Settings
from furnisync.errors import DatabaseUnusable, KeyRefused
from furnisync.lockfile import single_instance
from furnisync.ops.backup.backup import LastBackup, _note
from furnisync.ops.notify import alerts
from furnisync.ops.notify.heartbeat import Watch
from furnisync.ops.notify.notifier import Memory, Notifier, deliver, notify_now, remembering
from furnisync.quota.ledger import Ledger, QuotaHeaders


class Listener:
    """A service that takes notices; `refuse` makes it answer 500."""

    def __init__(self):
        self.got: list[dict[str, str]] = []
        self.refuse = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(json.loads(body))
                self.send_response(500 if outer.refuse else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://user:hunter2@127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def heads(self):
        return [one["title"].partition(": ")[2] for one in self.got]


@pytest.fixture
def listener():
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def home(tmp_path):
    return KeptHome(tmp_path / "home").make()


def settings_for(listener, **images):
    return Settings(
        images=ImageSettings(**{"min_free_mb": 0.0, **images}),
        notices=NoticeSettings((listener.url,)),
    )


def notifier(home, listener, **images):
    return Notifier(home.files, settings_for(listener, **images), home.clock)


def kinds(found):
    return [one.kind for one, _ in found]


def test_nothing_wrong_nothing_told(home, listener):
    assert notifier(home, listener).look() == []
    assert listener.got == []


def test_each_notice_at_most_once_a_day(home, listener):
    low = notifier(home, listener, min_free_mb=1e12)
    for hours in (0, 1, 23.9):
        home.clock.at = NOW + hours * 3600
        assert kinds(low.look()) == ["disk-low"]
        assert listener.heads() == ["the disk is almost full"]
    home.clock.at = NOW + DAY
    low.look()
    assert len(listener.got) == 2
    assert "free in" in listener.got[0]["message"]
    assert home.files.notices.stat().st_size < 1000


def test_what_cannot_be_delivered_is_logged_and_tried_in_an_hour(home, listener, caplog):
    listener.refuse = True
    low = notifier(home, listener, min_free_mb=1e12)
    low.look()
    assert "could not be delivered" in caplog.text
    assert "hunter2" not in caplog.text
    home.clock.at += 1800
    low.look()
    assert len(listener.got) == 1
    listener.refuse = False
    home.clock.at += 1801
    low.look()
    home.clock.at += 7200
    low.look()
    assert len(listener.got) == 2


def test_marked_as_told_before_it_is_sent(home, listener, monkeypatch):
    """A crash while sending costs a notice for a day, not one at each restart."""

    def crash(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("furnisync.ops.notify.notifier.deliver", crash)
        with pytest.raises(SystemExit):
            notifier(home, listener, min_free_mb=1e12).look()
    notifier(home, listener, min_free_mb=1e12).look()
    assert listener.got == []


def test_a_damaged_memory_is_begun_anew(home, listener):
    home.files.notices.write_text('{"told": ')
    assert kinds(notifier(home, listener, min_free_mb=1e12).look()) == ["disk-low"]
    assert msgspec.json.decode(home.files.notices.read_bytes(), type=Memory).sent


def test_backup_failed(home, listener):
    _note(home.files, LastBackup(NOW, "/there", ok=False, why="The backup to /there failed."))
    notify_now(home.files, settings_for(listener), home.clock)
    assert listener.got[0]["message"] == "The backup to /there failed."
    _note(home.files, LastBackup(NOW, "/there", ok=True))
    assert notifier(home, listener).look() == []


def test_certificate_incomplete_for_a_week(home, listener):
    home.change("INSERT INTO passes VALUES (1, 'p', ?, NULL, NULL)", NOW - 6 * DAY)
    look = notifier(home, listener)
    assert look.look() == []
    home.clock.at = NOW + 1.1 * DAY
    assert kinds(look.look()) == ["certificate-incomplete"]
    home.change("UPDATE passes SET finished_at = ?, complete = 1", NOW)
    assert look.look() == []


def test_listings_out_of_reach_for_a_week(home, listener):
    """A pass that read all that can be read, and yet a price holds more than any query shows."""
    home.change("INSERT INTO passes VALUES (1, 'p', ?, ?, 1)", NOW - DAY, NOW)
    home.change(
        "INSERT INTO intervals (interval_id, pass_id, part, state, count, found, parent, proven)"
        " VALUES (1, 1, 'whole', 'split', 13000, 12100, NULL, 0),"
        " (2, 1, 'oldest', 'done', 13000, 12100, 1, NULL)"
    )
    look = notifier(home, listener)
    assert look.look() == []
    home.clock.at = NOW + 7.1 * DAY
    assert kinds(look.look()) == ["certificate-incomplete"]
    assert "900 listings were out of reach" in listener.got[0]["message"]


def told_quota(home, *answers):
    with closing(
        Ledger(home.files.quota, "key", "images", "fast", QuotaSettings(), home.clock)
    ) as ledger:
        for answer in answers:
            (number, _), *_ = ledger._try_grant("batch")
            ledger._flights[number] = ("batch", None)
            ledger.settle("batch", answer)
            home.clock.at += 5


def test_quota_cut_is_told_once_as_it_happened(home, listener):
    full = QuotaHeaders(200, 150, 149, 100_000, 99_000)
    told_quota(home, full, QuotaHeaders(200, 5, 4, 5_000, 4_990))
    look = notifier(home, listener)
    assert kinds(look.look()) == ["quota-cut"]
    assert "lowered the limit per" in listener.got[0]["message"]
    home.clock.at += DAY - 60
    look.look()
    home.clock.at += 120
    look.look()
    assert len(listener.got) == 1


def test_quota_spent_by_others_is_told(home, listener):
    told_quota(home, QuotaHeaders(200, 150, 149, 5_000, 0))
    found = notifier(home, listener).look()
    assert kinds(found) == ["quota-spent"]
    assert "only 1 of 5,000" in found[0][0].message


def watch(home, listener):
    return Watch("images", home.files, settings_for(listener), home.clock)


def beats(home):
    with remembering(home.files) as memory:
        return memory.life.beats


def test_a_clean_end_is_no_crash_and_a_dead_sync_is(home, listener):
    with watch(home, listener) as one:
        one.look()
    assert beats(home) == {}
    dying = watch(home, listener)
    dying.look()
    dying._thread.join()
    found = notifier(home, listener).look()  # its lock is free, and it said no goodbye
    assert kinds(found) == ["sync-crashed"]
    assert f"pid {os.getpid()}" in found[0][0].message


def test_an_end_that_the_user_wanted_is_no_crash_however_it_comes(home, listener, monkeypatch):
    """A second Ctrl-C, or a system that does not wait, leaves no time for a goodbye."""
    one = watch(home, listener)
    one.look()
    one._thread.join()
    assert "images" in beats(home)
    one.expect_end()
    assert beats(home) == {}
    monkeypatch.setattr(one, "_looked_at", float("-inf"))
    one.look()  # while it drains
    one._run(alerts.Heartbeat(NOW, 1))  # a look that was under way
    assert beats(home) == {}
    assert notifier(home, listener).look() == []


def test_an_error_while_it_ends_is_told_all_the_same(home, listener):
    one = watch(home, listener)
    one.expect_end()
    with pytest.raises(DatabaseUnusable), one:
        raise DatabaseUnusable("catalog.db is damaged")
    assert listener.heads() == ["a sync has ended"]


@pytest.mark.parametrize(
    ("error", "head", "words"),
    [
        (KeyRefused("Etsy refused the API key"), "the API key was refused", "refused the API key"),
        (DatabaseUnusable("catalog.db is damaged"), "a sync has ended", "catalog.db is damaged"),
        (ZeroDivisionError("secret"), "a sync has ended", "ZeroDivisionError"),
    ],
)
def test_an_error_that_ends_a_sync_is_told_at_once(home, listener, error, head, words):
    with pytest.raises(type(error)), watch(home, listener):
        raise error
    assert listener.heads() == [head]
    assert words in listener.got[0]["message"]


def test_a_sync_that_hangs_or_gets_nothing_is_stalled(home, listener):
    look = notifier(home, listener)

    def pass_alive(seconds):
        home.clock.at += seconds
        with remembering(home.files) as memory:
            memory.life.beats["images"] = alerts.Heartbeat(home.clock.now(), 77)

    home.change("UPDATE listings SET batch_due = 1 WHERE listing_id = 1001")
    with single_instance(home.files.lock("images"), "image sync"):
        pass_alive(0)
        assert look.look() == []
        pass_alive(1.9 * 3600)
        assert look.look() == []
        pass_alive(600)
        found = look.look()
        assert kinds(found) == ["sync-stalled"]
        assert "made no progress for 2 hours" in found[0][0].message
        home.change("UPDATE listings SET batch_due = NULL")  # it got on
        assert look.look() == []
        home.clock.at += 3600
        assert "has not responded" in look.look()[0][0].message


def test_weekly_digest(home, listener):
    settings = msgspec.structs.replace(
        settings_for(listener), notices=NoticeSettings((listener.url,), weekly_digest=True)
    )
    look = Notifier(home.files, settings, home.clock)
    for days in (0, 6.9, 7, 8, 14):
        home.clock.at = NOW + days * DAY
        look.look()
    assert listener.heads() == ["the week", "the week"]
    assert "4 listings of 2 shops, 8 images" in listener.got[0]["message"]
    assert listener.got[0]["type"] == "info"


def test_unknown_addresses_and_odd_words(listener):
    done = deliver(["nosuch://x", "json://127.0.0.1:9", listener.url], "t\n\x1b[2J", "b\x07\nb")
    assert [one.delivered for one in done] == [False, False, True]
    assert all("hunter2" not in one.where for one in done)
    assert listener.got[0]["message"] == "b\\x07\nb"
    assert "\x1b" not in listener.got[0]["title"]


def test_real_syncs_tell_a_refused_key_and_a_kill(tmp_path, listener):
    with small_sandbox(shops=3, listings=6) as sandbox:
        home = Home(tmp_path / "home", sandbox, notices={"urls": [listener.url]})
        home.env = {"ETSY_SHARED_SECRET": "wrong"}
        assert home.sync("--fast").status == 2
        assert listener.heads() == ["the API key was refused"]
        home.env = {}
        run = home.start("--slow")
        run.until(lambda: b'"beats":{"images"' in (home.path / ".notices.json").read_bytes()
                  and home.number("SELECT count(*) FROM listings"))  # fmt: skip
        run.signal(signal.SIGKILL)
        run.process.wait()
        ended = home.run("notices", "check")
        assert ended.status == 0, ended.out
        assert "ended without an error" in ended.out
        assert listener.heads() == ["the API key was refused", "a sync has ended"]
        ended = home.run("notices", "test")
        assert ended.status == 0, ended.out
        assert "hunter2" not in ended.out


@pytest.mark.parametrize("job", ["images", "data"])
def test_a_second_interrupt_is_not_told_as_a_crash(tmp_path, listener, job):
    with small_sandbox(shops=3, listings=6) as sandbox:
        home = Home(tmp_path / "home", sandbox, notices={"urls": [listener.url]})
        if job == "data":
            assert home.sync("--fast").status == 0
        sandbox.set_faults([{"where": "api", "do": "hang"}])
        before = sandbox.asked()["total"]
        run = home.start("--slow", command=("-m", "furnisync", job))
        run.until(lambda: sandbox.asked()["total"] > before)  # it waits for the call that hangs
        memory = home.path / ".notices.json"
        run.until(lambda: memory.exists() and f'"beats":{{"{job}"'.encode() in memory.read_bytes())
        run.signal(signal.SIGINT)
        run.until(lambda: b'"beats":{}' in memory.read_bytes())
        run.signal(signal.SIGINT)
        assert run.wait(5).status == 130
        ended = home.run("notices", "check")
        assert (ended.status, ended.out) == (0, "Nothing is wrong.\n")
        assert listener.got == []


def test_an_interrupt_while_the_last_notice_is_sent_ends_at_once(tmp_path):
    silent = socket.create_server(("127.0.0.1", 0))
    with small_sandbox(shops=3, listings=6) as sandbox, silent:
        silent.settimeout(60)
        url = f"json://127.0.0.1:{silent.getsockname()[1]}/"
        home = Home(tmp_path / "home", sandbox, notices={"urls": [url]})
        sandbox.set_faults([{"where": "api", "do": "401"}])
        run = home.start("--fast", command=("-m", "furnisync", "images"))
        connection, _ = silent.accept()
        with connection:
            run.signal(signal.SIGINT)
            assert run.wait().status == 130, run.words


def test_a_failed_backup_is_told_at_once(home, listener):
    """By the command itself: no sync runs and nobody reads what cron says."""
    (home.files.home / "furnisync.toml").write_text(
        f'images.min_free_mb = 0.0\nnotices.urls = ["{listener.url}"]\n'
    )
    in_the_way = home.files.home / "in-the-way"
    in_the_way.write_text("")
    ran = Home.__new__(Home)
    ran.path, ran.sandbox, ran.env, ran._runs = home.files.home, None, {}, 0
    ended = ran.run("backup", str(in_the_way))
    assert ended.status == 2
    assert str(in_the_way) in ended.out
    assert listener.heads() == ["a backup failed"]
    assert str(in_the_way) in listener.got[0]["message"]
    assert ran.run("backup").status == 0
    assert len(listener.got) == 1


def test_settings_that_cannot_be_read_do_not_hide_why_a_backup_failed(home):
    (home.files.home / "furnisync.toml").write_text("[notices\n")
    ran = Home.__new__(Home)
    ran.path, ran.sandbox, ran.env, ran._runs = home.files.home, None, {}, 0
    home.files.catalog.write_bytes(b"no database at all " * 100)
    ended = ran.run("backup")
    assert ended.status == 2
    assert "no notice of the failed backup was sent" in ended.out
    assert "catalog.db" in ended.out


FULL = """
mount -t tmpfs -o size=256k tmpfs "$FURNISYNC_HOME" && cd "$FURNISYNC_HOME"
printf 'images.min_free_mb = 0\\nnotices.urls = ["%s"]\\n' "$URL" > furnisync.toml
touch etsy_data.db
printf '{"at": 1, "target": "x", "ok": true}' > .backup.json
printf 'not a database' > etsy_data.db
"$PYTHON" -m furnisync notices check || exit 1
cat /dev/zero > filler 2>/dev/null
[ "$(df --output=avail . | tail -1)" -eq 0 ] || exit 1
"$PYTHON" -m furnisync backup
"$PYTHON" -m furnisync notices check
"""


def test_a_disk_without_room_for_a_line_hides_nothing(tmp_path, listener):
    if os.getuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a full disk of the test's own needs root and unshare")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ETSY_", "FURNISYNC_"))},
        "FURNISYNC_HOME": str(tmp_path), "URL": listener.url, "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", FULL], env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.startswith("Nothing is wrong."), ended.stdout
    assert listener.heads() == ["a backup failed"], ended.stdout
    assert "a backup failed: " in ended.stdout  # known to the second look, and not told again
