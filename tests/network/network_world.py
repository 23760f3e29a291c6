"""Both ways onto the network, asked alike: the API's and the image downloads'."""

import asyncio
import os
from urllib.parse import urlsplit

from furnisync.clock import SystemClock
from furnisync.download.downloader import download_batch
from furnisync.download.limits import DownloadLimits
from furnisync.errors import NoResponse
from furnisync.http.exchange import ExchangeLimits
from furnisync.http.network import read_network
from furnisync.http.transport import CurlTransport, Request
from furnisync.image_job import ImageJob
from furnisync.store.folder import FolderStore

LIMITS = ExchangeLimits(max_bytes=1_000_000, timeout_s=20.0, user_agent="test")
KEY = {"x-api-key": "keystring:secret"}


def by_api(url, folder):
    """Fetch as the API client does; why not, or None where it came."""

    async def fetch():
        transport = CurlTransport(read_network(os.environ), 4, LIMITS)
        try:
            response = await transport.fetch(Request(url, KEY))
        except NoResponse as error:
            return str(error)
        finally:
            await transport.close()
        return None if response.status == 200 else str(response.status)

    return asyncio.run(fetch())


def by_cdn(url, folder):
    """Fetch as image sync does; why not, or None where it came."""
    hosts = frozenset({urlsplit(url).netloc})
    limits = DownloadLimits(4, 0.0, 1_000_000, 1_000_000, 20.0, hosts, "test")
    job, network = ImageJob(1, 1, url), read_network(os.environ)
    (outcome,) = download_batch([job], FolderStore(folder), limits, SystemClock(), network)
    assert (outcome.reason is None) == (outcome.result == "done")
    return outcome.reason and outcome.reason.words
