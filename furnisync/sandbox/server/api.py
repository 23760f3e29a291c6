"""The API server: key, limits, faults and delay, then the call itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from furnisync.sandbox.server.calls import ApiResult, Calls, RefusedError, route
from furnisync.sandbox.server.fault_actions import HTML_503, LOGIN_PAGE, cut_off, shows, spoil

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from furnisync.sandbox.clock import Clock
    from furnisync.sandbox.server.faults import Faults, Rule
    from furnisync.sandbox.server.limits import Limits
    from furnisync.sandbox.server.request_log import RequestLog
    from furnisync.sandbox.world.churn import Churn

__all__ = ["PREFIX", "Api", "ApiParts"]

PREFIX = "/v3/application/"


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The parts of the API server."""

    calls: Calls
    clock: Clock
    limits: Limits
    faults: Faults
    churn: Churn
    asked: RequestLog
    key: str
    secret: str


class Api:
    """Answers HTTP requests under the API's base URL; `control` gets those of the tests."""

    def __init__(
        self,
        parts: ApiParts,
        latency_ms: float,
        control: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> None:
        self.latency_s = latency_ms / 1000
        self._parts = parts
        self._control = control

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.path.startswith("/_sandbox/"):
            return await self._control(request)
        parts = self._parts
        call, path_parts = route(request.path.removeprefix(PREFIX))
        query = _flat(request)
        entry = parts.asked.begin(parts.clock.now(), call, query, request.path)
        refusal = self._check_key(request.headers.get("x-api-key"))
        if request.method != "GET":
            refusal = RefusedError(405, "Method not allowed")
        if refusal:
            return self._end(entry, _error(refusal), {})
        verdict = parts.limits.take(parts.clock.now())
        if not verdict.allowed:
            words = RefusedError(429, "Exceeded the rate limit")
            return self._end(entry, _error(words), verdict.headers)
        rule = None
        if parts.faults.any("api"):
            rule = parts.faults.rule_for("api", call, request.path, {**query, **path_parts})
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        return await self._answer(request, entry, {**query, **path_parts}, rule, verdict.headers)

    async def _answer(
        self,
        request: web.BaseRequest,
        entry: dict[str, Any],
        facts: dict[str, str],
        rule: Rule | None,
        headers: dict[str, str],
    ) -> web.Response:
        parts = self._parts
        parts.churn.advance(parts.clock.now())
        if rule is not None and rule.do == "ignore":
            facts = {name: facts[name] for name in facts if name not in rule.details["names"]}
        try:
            answer = parts.calls.answer(entry["call"], facts)
        except RefusedError as refusal:
            return self._end(entry, _error(refusal), headers)
        finally:
            parts.churn.after_request(parts.clock.now())
        if rule is None or not shows(rule, answer):
            return self._end(entry, _json(answer.body()), headers)
        return await self._faulty(request, entry, answer, rule, headers)

    async def _faulty(
        self,
        request: web.BaseRequest,
        entry: dict[str, Any],
        answer: ApiResult,
        rule: Rule,
        headers: dict[str, str],
    ) -> web.Response:
        parts = self._parts
        date = parts.clock.http_date()
        if request.transport is None or await cut_off(rule, request.transport, answer.body(), date):
            parts.asked.end(entry, rule.do, rule.do)
            return web.Response(status=500)
        if rule.do == "no_rate_headers":
            headers = {}
        if rule.do == "no_date":
            headers = {**headers, "date": ""}
        if rule.do == "odd_date":
            odd = parts.clock.now() + float(rule.details["seconds"])
            headers = {**headers, "date": formatdate(odd, usegmt=True)}
        if rule.do == "login_page":
            page = web.Response(body=LOGIN_PAGE, content_type="text/html")
            return self._end(entry, page, {}, rule.do)
        if not rule.do.isdigit():
            return self._end(entry, _json(spoil(rule, answer)), headers, rule.do)
        response = _status(rule)
        if rule.do == "429":
            headers = parts.limits.refusal_headers(int(rule.details.get("retry_after", 1)))
            headers |= {name: str(value) for name, value in rule.details.get("with", {}).items()}
            if "headers" in rule.details and not rule.details["headers"]:
                headers = {"retry-after": headers["retry-after"]}
        elif "retry_after" in rule.details:
            headers = {**headers, "retry-after": str(rule.details["retry_after"])}
        return self._end(entry, response, headers, rule.do)

    def _end(
        self,
        entry: dict[str, Any],
        response: web.Response,
        headers: dict[str, str],
        fault: str | None = None,
    ) -> web.Response:
        response.headers["date"] = self._parts.clock.http_date()
        response.headers.update(headers)
        self._parts.asked.end(entry, str(response.status), fault)
        return response

    def _check_key(self, sent: str | None) -> RefusedError | None:
        parts = self._parts
        if not sent:
            return RefusedError(401, "Missing x-api-key header")
        key, colon, secret = sent.partition(":")
        if key != parts.key:
            return RefusedError(403, "Invalid API key")
        if not colon or not secret:
            return RefusedError(403, "Shared secret is required in x-api-key header.")
        if secret != parts.secret:
            return RefusedError(403, "Invalid shared secret in x-api-key header.")
        return None


def _flat(request: web.BaseRequest) -> dict[str, str]:
    """Return the query with repeated parameters joined, so that both forms of a list work."""
    query: dict[str, str] = {}
    for raw_name, value in request.query.items():
        name = raw_name.removesuffix("[]")
        query[name] = f"{query[name]},{value}" if name in query else value
    return query


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _error(refusal: RefusedError) -> web.Response:
    return _json(msgspec.json.encode({"error": refusal.words}), refusal.status)


def _status(rule: Rule) -> web.Response:
    status = int(rule.do)
    html = rule.details.get("body", "html" if status in (502, 503, 504) else "json") == "html"
    if html:
        return web.Response(body=HTML_503, status=status, content_type="text/html")
    return _error(RefusedError(status, str(rule.details.get("error", "Server error"))))
