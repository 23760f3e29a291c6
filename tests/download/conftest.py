import os

import pytest
from support.faulty_cdn import FaultyCdn

from furnisync.clock import SystemClock
from furnisync.download.downloader import Downloader
from furnisync.download.limits import DownloadLimits
from furnisync.image_job import ImageJob
from furnisync.store.folder import FolderStore


class ManualClock:
    """Stands still until told."""

    def __init__(self):
        self.at = 1000.0

    def now(self):
        return self.at + 1_700_000_000.0

    def monotonic(self):
        return self.at


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _running_cdn():
    cdn = FaultyCdn()
    yield cdn
    cdn.close()


@pytest.fixture
def cdn(_running_cdn):
    _running_cdn.forget()
    return _running_cdn


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "images")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def limits(cdn):
    def make(**changes):
        usual = {
            "connections": 4,
            "per_second": 0.0,
            "max_bytes": 1_000_000,
            "max_pixels": 1_000_000,
            "timeout_s": 20.0,
            "allowed_hosts": frozenset({cdn.host}),
            "user_agent": "furnisync-test",
        }
        return DownloadLimits(**{**usual, **changes})

    return make


@pytest.fixture
def downloader(store, limits):
    """Makes downloaders and closes them."""
    made = []

    def make(clock=None, **changes):
        made.append(Downloader(store, limits(**changes), clock or SystemClock()))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def jobs(cdn):
    def make(*paths):
        return [ImageJob(1000 + at, at, cdn.url(path)) for at, path in enumerate(paths)]

    return make
