"""Asks a sandbox as any HTTP client would."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from furnisync.sandbox.process import SandboxProcess

SMALL = {"shops": 40, "listings": 600, "images_mean": 3, "image_bytes": 8000, "pictures": 6}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Asker:
    def __init__(self, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox

    def api(self, path: str, key: str | None = None) -> Reply:
        full = f"{self.sandbox.key}:{self.sandbox.secret}" if key is None else key
        return self.url(f"{self.sandbox.api_url}/{path}", {"x-api-key": full} if full else {})

    def url(self, url: str, headers: dict[str, str] | None = None) -> Reply:
        request = urllib.request.Request(url, headers=headers or {})
        try:
            response = urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            low = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, low, response.read())

    def pages(self, path: str) -> list[dict[str, Any]]:
        mark = "&" if "?" in path else "?"
        found: list[dict[str, Any]] = []
        while True:
            page = self.api(f"{path}{mark}limit=100&offset={len(found)}").json
            found += page["results"]
            if len(found) >= page["count"]:
                return found

    def batch(self, ids: list[int], more: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), 100):
            listed = ",".join(map(str, ids[start : start + 100]))
            found += self.api(f"listings/batch?listing_ids={listed}{more}").json["results"]
        return found
