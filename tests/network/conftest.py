"""No proxy or certificate of this machine gets into the tests; both ways are asked alike."""

import os

import pytest
from network_world import by_api, by_cdn

BUNDLES = {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"}


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL_CERT_") or name in BUNDLES:
            monkeypatch.delenv(name)


@pytest.fixture(params=[by_api, by_cdn], ids=["api", "cdn"])
def fetch(request, tmp_path):
    return lambda url: request.param(url, tmp_path / "images")
