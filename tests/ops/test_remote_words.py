"""Names of hosts and folders can do nothing but name; what is sent holds no data and no key."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_world import clean_environment

from furnisync.errors import ConfigError
from furnisync.ops.remote.deploy import code_words, project_root
from furnisync.ops.remote.host import RemoteHost, StepFailed, check_folder, check_host


@pytest.mark.parametrize(
    "name", ["imac", "me@imac.local", "192.168.1.7", "::1", "[fe80::1%en0]", "a-b_c.d", "u.x@h"]
)
def test_hosts_as_ssh_takes_them(name):
    assert check_host(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-oProxyCommand=x", "a b", "a;b", "a$(b)", "a`b`", "a\nb", "a@-b", "-a@b", "a@b@c", "a/b",
     "a'b", 'a"b', "a|b", "a&b", "a>b", "a\\b", "ü"],
)  # fmt: skip
def test_what_is_no_host_is_refused(name):
    with pytest.raises(ConfigError, match="no host"):
        check_host(name)


@given(st.text(max_size=20))
def test_no_accepted_host_is_an_option_or_means_anything_to_a_shell(name):
    try:
        check_host(name)
    except ConfigError:
        return
    assert not name.startswith("-")
    assert "@-" not in name
    assert not set(name) & set(" \t\n;&|<>()$`\\\"'*?!#{}~=/,")


def test_a_wrong_host_starts_no_ssh(tmp_path):
    (tmp_path / "ssh").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "ssh").chmod(0o755)
    environment = {**clean_environment(), "PATH": str(tmp_path), "FURNISYNC_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "furnisync", "remote", "--", "-oProxyCommand=touch x", "status"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "is no host" in ended.stderr
    assert not (tmp_path / "started").exists()


def test_what_the_other_computer_says_is_shown_and_not_obeyed(tmp_path):
    (tmp_path / "ssh").write_text(
        "#!/bin/sh\nprintf 'images: \\033]0;owned\\007 [red]stopped\\n'\n"
    )
    (tmp_path / "ssh").chmod(0o755)
    environment = {**clean_environment(), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    ended = subprocess.run(
        [sys.executable, "-m", "furnisync", "remote", "box", "stop"],
        env={**environment, "FURNISYNC_HOME": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.stdout == "images: \\x1b]0;owned\\x07 [red]stopped\n"
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("given_name", "meant"),
    [
        ("~/furnisync", "~/furnisync"),
        ("~/a b/", "~/a b"),
        ("data", "~/data"),
        ("/srv/x", "/srv/x"),
        (str(Path.home() / "x"), "~/x"),  # this shell's work
        ("-rf", "~/-rf"),
    ],
)
def test_folders(given_name, meant):
    assert check_folder(given_name) == meant


@pytest.mark.parametrize(
    "name", ["", "~", "/", "~/", "~root/x", "../x", "~/a/../..", "a\nb", "~/."]
)
def test_folders_that_would_spread_the_code_are_refused(name):
    with pytest.raises(ConfigError, match="--dir"):
        check_folder(name)


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20))
def test_a_shell_there_reads_the_folder_as_it_is(tail):
    try:
        folder = check_folder("~/" + tail)
    except ConfigError:
        return
    host = RemoteHost("box", folder)
    said = subprocess.run(
        ["/bin/sh", "-c", f"printf %s {host.quoted_folder}"],
        env={"HOME": "/home/o'x y"}, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    assert said == "/home/o'x y" + folder[1:]


def test_nothing_is_asked_and_nothing_is_taken_for_an_option():
    command = RemoteHost("box", "~/x", Path("/etc/cfg")).command("echo 'hello'; exit 3")
    assert command[:3] == ["ssh", "-F", "/etc/cfg"]
    assert "BatchMode=yes" in command
    assert command[-3:-1] == ["--", "box"]
    ran = subprocess.run(command[-1], shell=True, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (3, "hello\n")


def sent(root, to):
    """What rsync puts into a folder."""
    subprocess.run(["rsync", *code_words(root), f"{to}/"], check=True, stdout=subprocess.DEVNULL)
    return {str(path.relative_to(to)) for path in to.rglob("*") if not path.is_dir()}


NEAR = """#!/bin/sh
# The other computer is this one, with other programs.
for script; do :; done
PATH={there} HOME={there} exec /bin/sh -c "$script"
"""


@pytest.mark.parametrize("missing", ["here", "there"])
def test_a_missing_rsync_is_named_with_what_to_run(tmp_path, missing):
    for side in ("here", "there"):
        (tmp_path / side).mkdir()
        for name in ("mkdir", "rsync") if side != missing else ("mkdir",):
            (tmp_path / side / name).symlink_to(shutil.which(name))
    (tmp_path / "here" / "ssh").write_text(NEAR.format(there=tmp_path / "there"))
    (tmp_path / "here" / "ssh").chmod(0o755)
    environment = {**clean_environment(), "PATH": str(tmp_path / "here")}
    ended = subprocess.run(
        [sys.executable, "-m", "furnisync", "remote", "box", "setup", "--python", sys.executable],
        env={**environment, "FURNISYNC_HOME": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    where = {"here": "On this computer rsync is missing", "there": "box: could not put the code"}
    assert where[missing] in ended.stderr
    assert "rsync is missing: run `apt install rsync`" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "asked"),
    [("imac", "imac"), ("me@imac", "-l me imac"), ("me@fe80::1%en0", "-l me fe80::1%en0")],
)
def test_rsync_reaches_a_host_by_its_name_and_ssh_takes_no_prompt(
    tmp_path, monkeypatch, name, asked
):
    (tmp_path / "ssh").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked; exit 255\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StepFailed, match=r"could not send it .*: .*run the same command again"):
        RemoteHost(name, "~/x").send("send it", ["Makefile"], "new/")
    words = (tmp_path / "asked").read_text()
    assert f" {asked} exec /bin/sh -c " in words
    assert "BatchMode=yes" in words


def test_only_code_is_sent(tmp_path):
    planted = (
        "furnisync/a.py", "furnisync/.env", "furnisync/x.db", "furnisync/__pycache__/a.pyc",
        ".env", "etsy_data.db", "venv/x", "tests/t.py", "images/1.jpg", "Makefile",
    )  # fmt: skip
    for name in planted:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "furnisync" / "link").symlink_to("/etc/passwd")
    assert sent(tmp_path, tmp_path / "sent") == {"furnisync/a.py", "Makefile"}
    names = sent(project_root(), tmp_path / "project")
    assert {"furnisync/cli/app.py", "furnisync/furnisync.toml", "requirements.lock"} <= names
    assert "sync_images.py" in names
