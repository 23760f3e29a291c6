"""`.env`: read whatever it is, or the true reason why not."""

import os
import threading

import pytest

from furnisync.config import read_environment
from furnisync.errors import ConfigError

KEY = "ETSY_API_KEY=keystring\nETSY_SHARED_SECRET=secret\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(home):
    return read_environment({"FURNISYNC_HOME": str(home)})


def test_a_file_is_read(home):
    (home / ".env").write_text(KEY)
    assert read(home).key is not None


@pytest.mark.parametrize("same", [True, False])
def test_a_named_pipe_is_read(tmp_path, monkeypatch, same):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path if same else tmp_path / "here")
    pipe = tmp_path / ".env"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(KEY,), daemon=True)
    writer.start()
    assert read(tmp_path).key is not None
    writer.join(10)
    assert not writer.is_alive()


def test_a_folder_is_named(home):
    (home / ".env").mkdir()
    with pytest.raises(ConfigError, match=r"\.env cannot be read \(Is a directory\)"):
        read(home)


@pytest.mark.parametrize("line", ["ETSY_API_KEY: keystring", "  export ETSY_API_KEY : keystring"])
def test_lines_with_a_colon_are_named(home, line):
    (home / ".env").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match="has a line ETSY_API_KEY: with a colon") as error:
        read(home)
    assert "keystring" not in str(error.value)


def test_bytes_that_are_no_text_are_named(home):
    (home / ".env").write_bytes(b"ETSY_API_KEY=\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(home)
