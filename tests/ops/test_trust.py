"""Titles, names and addresses from anybody: stored word for word, obeyed by nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import zlib
from contextlib import closing, suppress
from io import StringIO
from pathlib import Path

import pytest
from kept_world import KeptHome
from support.processes import ROOT
from support.sync_world import Home, small_sandbox

from furnisync.catalog.image_queue import Shown, add_images
from furnisync.catalog.listings import ImageRow, Listed, add_listed
from furnisync.catalog.schema import open_catalog, set_meta
from furnisync.cli.console import PlainConsole, PlainFormatter, make_console
from furnisync.cli.status import print_collected
from furnisync.clock import SystemClock
from furnisync.download.downloader import download_batch
from furnisync.download.limits import DownloadLimits
from furnisync.download.url_policy import refusal
from furnisync.image_job import ImageJob
from furnisync.images.metadata import write_metadata
from furnisync.sandbox.process import SandboxProcess
from furnisync.sanitize import plain
from furnisync.store.folder import FolderStore
from furnisync.store.image_format import NotAnImage, inspect_image

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.exe\r\x08"
TITLES = (
    "'); DROP TABLE listings; -- \" ` \\",
    "$(touch owned) `touch owned` ; touch owned | touch owned && touch owned \n touch owned",
    "=cmd|' /C calc'!A0",
    '+1+1,@SUM(1+1)*cmd,\t-2+3,"a""b"',
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[bold red]owned[/bold red] [link=http://evil]x[/link] [/] :warning: \\[x]",
    f"{ESCAPES} end",
    "../../../etc/passwd\x00.jpg",
    "{0.__class__} %s %(x)s ${HOME}",
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="module")
def synced(tmp_path_factory):
    """Both syncs against an Etsy whose listings and shops bear such names."""
    home = Home(tmp_path_factory.mktemp("trust") / "home", None)
    with small_sandbox(shops=3, listings=12, images_mean=1) as sandbox:
        home.sandbox = sandbox
        home.configure(
            data={"shop_fields": ["shop_name", "title", "announcement"]},
            quota={"fast_per_second": 100_000.0},
        )
        ids = sorted(
            row["listing_id"]
            for row in sandbox.truth_listings()
            if row["findable"] and row["is_furniture"]
        )
        for listing_id, title in zip(ids, TITLES, strict=False):
            fields = {"title": title, "description": title, "tags": [title]}
            sandbox.churn({"op": "edit", "listing_ids": [listing_id], "fields": fields})
        ended = [
            home.sync("--fast"),
            home.start("--fast", command=("-m", "furnisync", "data")).wait(),
        ]
        home.words = [one.out for one in ended]
        assert [one.status for one in ended] == [0, 0], home.words
        home.titles = dict(zip(ids, TITLES, strict=False))
        yield home


def test_titles_are_stored_word_for_word(synced):
    rows = dict(synced.rows("SELECT listing_id, title FROM listings", name="etsy_data.db"))
    assert len(synced.titles) >= len(TITLES) - 2
    for listing_id, title in synced.titles.items():
        assert rows[listing_id] == title
    assert synced.rows("PRAGMA integrity_check", name="etsy_data.db") == [("ok",)]
    tags = synced.rows("SELECT tags FROM listings", name="etsy_data.db")
    assert all(isinstance(json.loads(one), list) for (one,) in tags if one)


def test_nothing_was_run_and_no_file_is_named_by_them(synced):
    below = {str(path.relative_to(synced.path)) for path in synced.path.rglob("*")}
    assert not [name for name in below if "owned" in name or "passwd" in name]
    assert not (Path.cwd() / "owned").exists()
    pattern = re.compile(r"images/\d{3}/\d+_\d+\.(jpg|png|webp|gif)")
    assert all(pattern.fullmatch(name) for name in synced.files())


def test_no_log_line_or_status_obeys_them(synced):
    told = [*synced.words, synced.run("status").out, synced.run("coverage").out]
    for words in told:
        assert not CONTROLS.search(words), repr(CONTROLS.search(words))


def test_a_reason_with_markup_and_escapes_is_shown_as_it_is(synced):
    with closing(sqlite3.connect(synced.path / "catalog.db")) as catalog, catalog:
        catalog.execute(
            "UPDATE shops SET reason = ? WHERE shop_id = (SELECT min(shop_id) FROM shops)",
            (f"[red]gone[/nothing] {ESCAPES}",),
        )
        catalog.execute("INSERT INTO events VALUES (1790000000, 'x', '[link=http://evil]a\x1b[2J')")
    ended = synced.run("status")
    assert ended.status == 0
    found = CONTROLS.search(ended.out)
    assert not found, ended.out[max(0, found.start() - 200) :][:400]
    assert "[red]gone[/nothing] \\x1b]0;owned" in ended.out
    assert "[link=http://evil]a\\x1b[2J" in ended.out


def test_the_console_and_the_log_say_controls_instead_of_obeying():
    console = PlainConsole(file=StringIO(), force_terminal=True, width=200, color_system=None)
    console.print(f"[bold]{ESCAPES}[/bold]")
    assert console.file.getvalue().count("\x1b") == 0
    record = logging.LogRecord("x", 30, "f", 1, "shop %s", (f"a\nERROR forged {ESCAPES}",), None)
    line = PlainFormatter("%(levelname)s %(message)s").format(record)
    assert "\n" not in line
    assert not CONTROLS.search(line)


def test_an_error_that_quotes_them_is_logged_without_obeying():
    with pytest.raises(ValueError) as told:
        int("x")
    error = (ValueError, ValueError(f"no such shop: {ESCAPES}"), told.tb)
    record = logging.LogRecord("x", 40, "f", 1, "ended", (), error)
    lines = PlainFormatter("%(message)s").format(record)
    assert len(lines.splitlines()) >= 4
    assert "\\x1b]0;owned" in lines
    assert not CONTROLS.search(lines)


@pytest.fixture(scope="module")
def spoiled(synced):
    """The same home, with such words also where only we write: node names, reasons."""
    evil = f"[link=http://evil]x[/link] {ESCAPES}"
    with closing(sqlite3.connect(synced.path / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE taxonomy SET name = ?", (evil,))
        catalog.execute("UPDATE intervals SET reason = ?", (evil,))
        catalog.execute(
            "UPDATE images SET status = 'bad', reason = 'not_an_image', reason_detail = ?"
            " WHERE rank = 1",
            (evil,),
        )
        catalog.execute("UPDATE passes SET complete = 0, finished_at = NULL, started_at = 1")
    with closing(sqlite3.connect(synced.path / "etsy_data.db")) as history, history:
        history.execute("UPDATE sync_state SET reason = ?, reviews_reason = ?", (evil, evil))
    return synced


def test_no_command_obeys_what_a_database_holds(spoiled):
    """Whatever text is shown anywhere: names of taxonomy nodes, reasons, events, file names."""
    for arguments in (
        ("status",), ("coverage",), ("plan", "--dry-run"), ("verify",), ("doctor",),
        ("notices", "check"), ("backup",), ("purge", "--shop", "1", "--dry-run"),
    ):  # fmt: skip
        ended = spoiled.run(*arguments)
        assert "Traceback" not in ended.out, arguments
        found = CONTROLS.search(ended.out)
        assert not found, (arguments, ended.out[max(0, found.start() - 100) :][:300])
    assert "\\x1b]0;owned" in spoiled.run("status").out
    for arguments in (("status", "--json"), ("coverage", "--json"), ("verify", "--json")):
        found = json.loads(spoiled.run(*arguments).out)  # whole JSON, escaped by its own rules
        assert found


def test_the_metadata_file_is_json_whatever_an_address_holds(tmp_path):
    url = f'https://i.etsystatic.com/"}},<script>{ESCAPES}</script>'
    with closing(open_catalog(tmp_path / "catalog.db")) as catalog, catalog:
        catalog.execute("BEGIN")
        add_listed(catalog, [Listed(1, 2, 967, 1.0, 1)], 1)
        add_images(catalog, [Shown(1, [ImageRow(3, 1, url)])], "all", 1)
        write_metadata(catalog, tmp_path / "image_metadata.json", "images")
    raw = (tmp_path / "image_metadata.json").read_text()
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", raw)
    assert json.loads(raw)["1"]["images"][0]["url"] == url


def test_the_demo_shows_titles_and_obeys_none(tmp_path, capsys):
    home = KeptHome(tmp_path / "home").make()
    for listing_id, title in zip(
        (1001, 1002, 2001, 2002), (*TITLES[5:7], *TITLES[2:4]), strict=True
    ):
        home.change(
            "UPDATE listings SET title = ? WHERE listing_id = ?", title, listing_id, history=True
        )
    print_collected(make_console(), home.files)
    shown = capsys.readouterr().out
    assert "[bold red]owned" in shown
    assert "\\x1b]0;owned" in shown
    assert not CONTROLS.search(shown)


def test_a_terminal_shows_our_own_styles_only(spoiled):
    import pty  # noqa: PLC0415 -- not on every system

    parent, child = pty.openpty()
    ended = subprocess.Popen(
        [sys.executable, "-m", "furnisync", "status"],
        stdout=child, stderr=child, cwd=ROOT,
        env={**spoiled.environment(), "TERM": "xterm", "COLUMNS": "200"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    with suppress(OSError):  # the terminal is closed at its other end
        while piece := os.read(parent, 65536):
            shown += piece
    os.close(parent)
    assert ended.wait() == 0
    assert b"owned" in shown
    assert not re.search(rb"\x1b(?!\[[0-9;?]*[a-zA-Z])|\x07|\x1b\[2J", shown)


def test_plain_leaves_letters_alone():
    for text in ("Ölgemälde 椅子 🪑 طاولة", "a [b] \\ 'c' \"d\" <e>"):
        assert plain(text) == text
    assert plain("a\x1b\ud800\u2028b") == "a\\x1b\\ud800\\u2028b"


# -- images --------------------------------------------------------------------------------------

ALLOWED = frozenset({"i.etsystatic.com"})


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.com/i.etsystatic.com/a.jpg",
        "https://i.etsystatic.com.evil.com/a.jpg",
        "https://i.etsystatic.com@evil.com/a.jpg",
        "https://evil.com\\@i.etsystatic.com/a.jpg",
        "file:///etc/passwd",
        "ftp://i.etsystatic.com/a.jpg",
        "http://169.254.169.254/latest/meta-data",
        "https://i.etsystatic.com:22:80/a",
        "https://i.etsystatic.com/a b\r\nHost: evil",
        "//evil.com/a.jpg",
        "",
    ],
)
def test_image_addresses_elsewhere_are_refused(url):
    assert refusal(url, ALLOWED)


def test_a_redirect_elsewhere_is_refused(tmp_path):
    tiny = {"shops": 1, "listings": 2, "images_mean": 1, "image_bytes": 2000, "pictures": 1}
    with SandboxProcess(**tiny, start_at=0) as cdn:
        image = cdn.truth_images(digests=False)[0]
        url = image["urls"]["570xN"]
        rule = {"where": "cdn", "do": "redirect", "location": "http://127.0.0.1:9/secret"}
        cdn.set_faults([rule])
        limits = DownloadLimits(
            connections=1, per_second=0, max_bytes=10**6, max_pixels=10**6, timeout_s=5,
            allowed_hosts=frozenset({cdn.cdn_host}), user_agent="x",
        )  # fmt: skip
        [outcome] = download_batch(
            [ImageJob(1, 2, url)], FolderStore(tmp_path / "images"), limits, SystemClock()
        )
    assert outcome.result == "bad"
    assert "redirect" in outcome.reason.words
    assert not list(tmp_path.glob("images/[0-9]*/*"))


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"\0" * 100)),
        chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_decompression_bomb_is_refused_by_its_header():
    assert inspect_image(png(100, 100), 10_000).extension == "png"
    with pytest.raises(NotAnImage, match="too many pixels"):
        inspect_image(png(60_000, 60_000), 150_000_000)


@pytest.mark.parametrize("name", ["../up.jpg", "/etc/passwd", "a/../../b", "x\0y", ""])
def test_the_store_stays_in_its_folder(tmp_path, name):
    store = FolderStore(tmp_path / "images")
    for verb in (store.open, store.stat, store.remove):
        with pytest.raises(ValueError):
            verb(name)
    with pytest.raises(ValueError):
        store.put(1, 2, "jpg/../../x", b"")


# -- secrets -------------------------------------------------------------------------------------


def test_files_are_their_owners_only(synced):
    for name in ("catalog.db", "etsy_data.db", "quota.db"):
        assert (synced.path / name).stat().st_mode & 0o077 == 0, name


def test_what_sqlite_keeps_beside_a_database_is_its_owners_only_too(tmp_path):
    """The log holds the newest rows for as long as a sync runs."""
    before = os.umask(0o022)
    try:
        for again in (False, True):
            path = tmp_path / "catalog.db"
            with closing(open_catalog(path)) as catalog:
                set_meta(catalog, "x", str(again))
                modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
                assert modes == {f"catalog.db{end}": 0o600 for end in ("", "-wal", "-shm")}
                path.chmod(0o644)  # a copy that was made by hand
    finally:
        os.umask(before)


def test_an_env_that_others_can_read_is_warned_about(tmp_path):
    home = Home(tmp_path / "home", None)
    secrets = home.path / ".env"
    secrets.write_text(
        "ETSY_API_KEY=abc\nETSY_SHARED_SECRET=def\nETSY_API_URL=http://127.0.0.1:9\n"
    )
    secrets.chmod(0o644)
    run = home.start("--fast", command=("-m", "furnisync", "data"))
    ended = run.wait()  # there are no shops: it ends at once, after the warning
    assert ended.status == 2
    assert f"chmod 600 {secrets}" in ended.out
    secrets.chmod(0o600)
    assert "chmod" not in home.start(command=("-m", "furnisync", "data")).wait().out
    shutil.rmtree(home.path)
