"""The endpoints under /_sandbox/, with which tests inspect and control the sandbox."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from furnisync.sandbox.world.named_changes import NamedChanges

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from furnisync.sandbox.clock import Clock
    from furnisync.sandbox.server.faults import Faults
    from furnisync.sandbox.server.limits import Limits
    from furnisync.sandbox.server.request_log import RequestLog
    from furnisync.sandbox.world.changes import Changes
    from furnisync.sandbox.world.churn import Churn
    from furnisync.sandbox.world.truth import Truth
    from furnisync.sandbox.world.world import World

__all__ = ["Control", "ControlParts"]

_LINES_A_WRITE = 500


@dataclass(frozen=True, slots=True)
class ControlParts:
    """The parts of the sandbox that are controlled."""

    world: World
    truth: Truth
    asked: RequestLog
    faults: Faults
    limits: Limits
    clock: Clock
    churn: Churn
    changes: Changes


class Control:
    """The control endpoints; they need no key, cost no quota and are not counted."""

    def __init__(self, parts: ControlParts) -> None:
        self._parts = parts
        self._named = NamedChanges(parts.world, parts.changes)
        self._by_path: dict[str, Callable[[web.BaseRequest, Any], Awaitable[Any]]] = {
            "truth/listings": self._truth_listings,
            "truth/images": self._truth_images,
            "truth/shops": self._truth_shops,
            "truth/reviews": self._truth_reviews,
            "asked": self._asked,
            "asked/reset": self._reset_asked,
            "faults": self._faults,
            "limits": self._limits,
            "clock": self._clock,
            "churn": self._churn,
            "taxonomy": self._taxonomy,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; an invalid one gets 400 and the reason."""
        handler = self._by_path.get(request.path.removeprefix("/_sandbox/"))
        if handler is None:
            return web.json_response({"error": "no such endpoint"}, status=404)
        try:
            raw = await request.read()
            answer = await handler(request, msgspec.json.decode(raw) if raw else None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    # -- reading ---------------------------------------------------------------------------

    async def _truth_listings(self, request: web.BaseRequest, _body: Any) -> web.StreamResponse:
        full = request.query.get("full") == "1"
        return await self._lines(request, self._parts.truth.listings(full=full))

    async def _truth_images(self, request: web.BaseRequest, _body: Any) -> web.StreamResponse:
        size = request.query.get("size", "570xN")
        digests = request.query.get("digests", "1") == "1"
        return await self._lines(request, self._parts.truth.images(size, digests=digests))

    async def _truth_shops(self, request: web.BaseRequest, _body: Any) -> web.StreamResponse:
        return await self._lines(request, self._parts.truth.shops())

    async def _truth_reviews(self, request: web.BaseRequest, _body: Any) -> web.StreamResponse:
        shop_id = int(request.query["shop_id"])
        return await self._lines(request, self._parts.truth.reviews(shop_id))

    async def _lines(self, request: web.BaseRequest, lines: Iterator[bytes]) -> web.StreamResponse:
        self._parts.churn.advance(self._parts.clock.now())
        first = next(lines, None)  # an invalid request fails before the answer begins
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        block = [] if first is None else [first]
        for line in lines:
            block.append(line)
            if len(block) >= _LINES_A_WRITE:
                await response.write(b"\n".join(block) + b"\n")
                block.clear()
                await asyncio.sleep(0)
        if block:
            await response.write(b"\n".join(block) + b"\n")
        await response.write_eof()
        return response

    async def _asked(self, request: web.BaseRequest, _body: Any) -> dict[str, Any]:
        logs = request.query.get("log", "").split(",")
        body = self._parts.asked.as_json(with_log="api" in logs, with_cdn_log="cdn" in logs)
        body["used_today"] = self._parts.limits.used_today(self._parts.clock.now())
        body["faults"] = self._parts.faults.as_json()
        return body

    # -- control ---------------------------------------------------------------------------

    async def _reset_asked(self, _request: web.BaseRequest, _body: Any) -> dict[str, Any]:
        self._parts.asked.reset()
        return {}

    async def _faults(self, _request: web.BaseRequest, body: Any) -> list[dict[str, Any]]:
        if body is not None:
            self._parts.faults.set(body)
        return self._parts.faults.as_json()

    async def _limits(self, _request: web.BaseRequest, body: Any) -> dict[str, Any]:
        limits = self._parts.limits
        for name, value in (body or {}).items():
            if name not in ("qps", "qpd", "free_429", "retry_after_s"):
                raise ValueError(f"no such limit: {name}")
            setattr(limits, name, bool(value) if name == "free_429" else int(value))
        return {"qps": limits.qps, "qpd": limits.qpd, "retry_after_s": limits.retry_after_s}

    async def _clock(self, _request: web.BaseRequest, body: Any) -> dict[str, float]:
        clock = self._parts.clock
        now = clock.move(float(body["move"])) if body else clock.now()
        changes = self._parts.churn.advance(now)
        return {"now": now, "changes": changes}

    async def _churn(self, _request: web.BaseRequest, body: Any) -> dict[str, Any]:
        churn, now = self._parts.churn, self._parts.clock.now()
        churn.advance(now)
        body = body or {}
        if "mix" in body:
            churn.mix = {str(kind): float(weight) for kind, weight in body["mix"].items()}
        if "per_request" in body:
            churn.per_request = int(body["per_request"])
        if "per_hour" in body or "reviews_per_hour" in body:
            rate = float(body.get("per_hour", churn.per_hour))
            reviews = float(body.get("reviews_per_hour", churn.reviews_per_hour))
            churn.set_rate(rate, reviews, now)
        for _ in range(int(body.get("any", 0))):
            churn.change_any(now)
        return {"now": now, "results": [self._named.apply(c, now) for c in body.get("changes", [])]}

    async def _taxonomy(self, _request: web.BaseRequest, body: Any) -> dict[str, Any]:
        tree = self._parts.world.taxonomy
        if "add" in body:
            tree.add(int(body["add"]["id"]), str(body["add"]["name"]), body["add"].get("parent_id"))
        if "drop" in body:
            tree.drop(int(body["drop"]))
        self._parts.world.note_taxonomy()
        return {"nodes": len(tree.nodes)}
