"""Settings: what is wrong is said in one sentence, the template shows the defaults."""

from __future__ import annotations

import math
import re
import tomllib
from importlib.resources import files

import msgspec
import pytest

from furnisync.config import (
    ApiKey,
    HomeFiles,
    Settings,
    read_environment,
    read_settings,
)
from furnisync.errors import ConfigError
from furnisync.home import prepare_home, require_home

TEMPLATE = files("furnisync").joinpath("furnisync.toml").read_text("utf-8")
COMMENTED = re.compile(r"^# (\w+ = .*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A current folder without `.env`."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def read(tmp_path, **given):
    return read_environment({"FURNISYNC_HOME": str(tmp_path / "home"), **given})


# -- furnisync.toml ---


def test_the_template_says_nothing_and_shows_every_default(tmp_path):
    prepare_home(HomeFiles(tmp_path))
    assert read_settings(tmp_path / "furnisync.toml") == Settings()
    assert (tmp_path / "furnisync.toml").read_text("utf-8") == TEMPLATE
    shown = tomllib.loads(COMMENTED.sub(r"\1", TEMPLATE))
    defaults = msgspec.to_builtins(Settings())
    assert set(shown) == set(defaults)
    for section, names in defaults.items():
        assert list(shown[section]) == list(names), section
        for name, default in names.items():
            assert shown[section][name] == ([] if default in (None, ()) else default), name


def test_every_shown_line_may_be_set(tmp_path):
    (tmp_path / "furnisync.toml").write_text(COMMENTED.sub(r"\1", TEMPLATE), "utf-8")
    settings = read_settings(tmp_path / "furnisync.toml")
    assert settings.images == Settings().images
    assert settings.api == Settings().api


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[images\n", "line 1"),
        ("[images]\nsize = 570\n", "images.size"),
        ('[images]\nsize = "600xN"\n', "images.size"),
        ('[images]\nwhich = "some"\n', "images.which"),
        ("[images]\nsizes = 1\n", "sizes"),
        ("[image]\n", "image"),
        ("size = 1\n", "size"),
        ("[images]\nslow_per_second = 0\n", "images.slow_per_second"),
        ("[images]\nfast_per_second = -1\n", "images.fast_per_second"),
        ("[images]\nfast_connections = 0\n", "images.fast_connections"),
        ("[images]\nmax_bytes = 1.5\n", "images.max_bytes"),
        ("[images]\ntimeout_s = nan\n", "images.timeout_s"),
        ("[images]\ntimeout_s = inf\n", "images.timeout_s"),
        ("[quota]\nreserve_percent = 101\n", "quota.reserve_percent"),
        ("[quota]\nslow_per_second = true\n", "quota.slow_per_second"),
        ("[quota]\nspread_s = nan\n", "quota.spread_s"),
        ("[crawl]\ncycle_days = '30'\n", "crawl.cycle_days"),
        ("[crawl]\nroot_taxonomy_id = 0\n", "crawl.root_taxonomy_id"),
        ("[api]\nattempts = 99999999999999999999\n", "api.attempts"),
        (b"\xff\xfe", "furnisync.toml"),
    ],
)
def test_each_wrong_setting_is_named_with_its_remedy(tmp_path, content, words):
    path = tmp_path / "furnisync.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(ConfigError) as told:
        read_settings(path)
    said = str(told.value)
    assert str(path) in said
    assert words in said
    assert "Correct" in said
    assert "\n" not in said
    assert path.read_bytes() == before


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "furnisync.toml").mkdir()
    with pytest.raises(ConfigError, match=r"furnisync\.toml"):
        read_settings(tmp_path / "furnisync.toml")


# -- the environment ---

BOTH = {"ETSY_API_KEY": "keystring123", "ETSY_SHARED_SECRET": "s3cret"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ETSY_API_KEY": "abc"}, "ETSY_SHARED_SECRET is not set"),
        ({"ETSY_SHARED_SECRET": "abc"}, "ETSY_API_KEY is not set"),
        ({**BOTH, "ETSY_API_KEY": "key:secret"}, "ETSY_API_KEY has a colon"),
        ({"ETSY_API_KEY": "key:secret"}, "after it into ETSY_SHARED_SECRET"),
        ({**BOTH, "ETSY_SHARED_SECRET": "sec ret"}, "ETSY_SHARED_SECRET holds a character"),
        ({**BOTH, "ETSY_SHARED_SECRET": "s\u00e9cret"}, "ETSY_SHARED_SECRET holds a character"),
        ({**BOTH, "ETSY_SHARED_SECRET": "s\x00cret"}, "ETSY_SHARED_SECRET holds a character"),
        ({"ETSY_API_URL": "api.etsy.com"}, "ETSY_API_URL is 'api.etsy.com'"),
        ({"ETSY_API_URL": "ftp://api.etsy.com"}, "ETSY_API_URL"),
        ({"ETSY_API_URL": "https://"}, "ETSY_API_URL"),
        ({"ETSY_API_URL": "http://[::1"}, "ETSY_API_URL"),
        ({"ETSY_API_URL": "http://host:port/"}, "ETSY_API_URL"),
        ({"ETSY_CDN_HOSTS": "https://i.etsystatic.com"}, "ETSY_CDN_HOSTS"),
        ({"ETSY_CDN_HOSTS": "i.etsystatic.com/il"}, "ETSY_CDN_HOSTS"),
        ({"ETSY_CDN_HOSTS": ","}, "ETSY_CDN_HOSTS"),
        ({"ETSY_API_URL": "http://127.0.0.1:65536/v3"}, "ETSY_API_URL"),
        ({"ETSY_API_URL": "http://[::1]:0"}, "ETSY_API_URL"),
        ({"ETSY_CDN_HOSTS": "i.etsystatic.com,127.0.0.1:99999"}, "ETSY_CDN_HOSTS"),
        ({"FURNISYNC_CLOCK_OFFSET_S": "a day"}, "FURNISYNC_CLOCK_OFFSET_S is 'a day'"),
        ({"FURNISYNC_CLOCK_OFFSET_S": "nan"}, "FURNISYNC_CLOCK_OFFSET_S"),
    ],
)
def test_each_wrong_variable_is_named_with_its_remedy(tmp_path, given, words):
    with pytest.raises(ConfigError) as told:
        read(tmp_path, **given)
    assert words in str(told.value)
    assert "\n" not in str(told.value)
    for secret in ("sec ret", "key:secret", "s\u00e9cret"):
        assert secret not in str(told.value)


def test_no_key_is_told_when_it_is_needed(tmp_path):
    environment = read(tmp_path)
    with pytest.raises(ConfigError, match=r"ETSY_API_KEY is not set: put .* into .*\.env"):
        environment.require_key()


def test_a_home_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"FURNISYNC_HOME is .*/file, .*permissions"):
        prepare_home(HomeFiles(tmp_path / "file"))


def test_where_settings_come_from(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text('ETSY_API_KEY="inhome"\nETSY_SHARED_SECRET=homesecret\n')
    environment = read(tmp_path)
    assert (environment.key.keystring, environment.key.shared_secret) == ("inhome", "homesecret")
    (tmp_path / "cwd" / ".env").write_text(f"ETSY_API_KEY=incwd\nFURNISYNC_HOME={home}\n")
    environment = read_environment({})
    assert (environment.home, environment.key.keystring) == (home, "incwd")
    environment = read_environment({"ETSY_API_KEY": "outside", "ETSY_API_URL": "http://x:1/y/"})
    assert environment.key.header() == "outside:homesecret"
    assert environment.api_url == "http://x:1/y"


def test_defaults_of_addresses(tmp_path):
    environment = read(tmp_path, ETSY_CDN_HOSTS="", ETSY_API_URL="")
    assert environment.api_url == "https://api.etsy.com/v3/application"
    assert environment.cdn_hosts == {"i.etsystatic.com"}
    environment = read(tmp_path, ETSY_CDN_HOSTS=" A.example ,b.example:8080,")
    assert environment.cdn_hosts == {"a.example", "b.example:8080"}


def test_the_key_is_in_no_text(tmp_path):
    key = ApiKey("keystring123", "s3cret")
    environment = read(tmp_path, **BOTH)
    told = f"{key} {key!r} {environment} {environment!r} {[key]} {key.fingerprint()} %s" % key
    assert "keystring123" not in told
    assert "s3cret" not in told
    assert key.fingerprint() != ApiKey("other", "s3cret").fingerprint()


def test_test_shares_nothing_with_production_but_the_quota_and_settings(tmp_path):
    real, test = HomeFiles(tmp_path), HomeFiles(tmp_path, test=True)
    names = ["images", "metadata", "catalog", "history", "plan"]
    for name in names:
        assert getattr(real, name) != getattr(test, name), name
        assert "_test" in getattr(test, name).name
    assert real.lock("images") != test.lock("images")
    assert real.quota == test.quota
    assert real.settings == test.settings


def test_numbers_of_the_defaults_are_finite():
    for section in msgspec.to_builtins(Settings()).values():
        for value in section.values():
            assert not isinstance(value, float) or math.isfinite(value)


def test_reading_makes_nothing_and_preparing_leaves_the_settings_only(tmp_path):
    home = HomeFiles(read(tmp_path).home)
    assert read_settings(home.settings) == Settings()
    assert not home.home.exists()
    prepare_home(home)
    assert list(home.home.iterdir()) == [home.settings]
    home.settings.write_text("images.min_free_mb = 7\n")
    prepare_home(home)
    assert read_settings(home.settings).images.min_free_mb == 7


def test_a_home_that_is_not_there_or_empty_is_told(tmp_path):
    home = HomeFiles(tmp_path / "home")
    with pytest.raises(ConfigError, match=r"home, which is not there: mount its disk"):
        require_home(home)
    home.home.mkdir()
    with pytest.raises(ConfigError, match=r"home holds no data of furnisync: run sync_images.py"):
        require_home(home)
    home.quota.touch()
    require_home(home)
