"""The door for tests and auditors, outside /v1: accounts, ledger, faults, reset, health.

http → [admin] → accounts | faults
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from penstock.simulator.exchange import Exchange
from penstock.simulator.faults import FaultError

if TYPE_CHECKING:
    from penstock.simulator.api import Api
    from penstock.simulator.exchange import Request

MAX_ROWS = 10_000
"""A page of the ledger: short enough that no reply waits for it."""


def handle(api: Api, request: Request) -> Exchange:
    """Answer a request below `/simulator/`."""
    name = request.path.removeprefix("/simulator/").strip("/")
    wanted = {"accounts": "GET", "calls": "GET", "health": "GET", "faults": "POST", "reset": "POST"}.get(name)
    if wanted is None:
        return _json(404, {"error": f"no {request.path}; there are accounts, calls, health, faults, reset"})
    if request.method != wanted:
        return _json(405, {"error": f"{request.path} takes {wanted}"})
    if name == "accounts":
        return _json(200, api.totals())
    if name == "calls":
        return _calls(api, request)
    if name == "faults":
        return _faults(api, request)
    if name == "reset":
        api.start()
    return _json(200, {"status": "ok", "simulator": "penstock"})


def _calls(api: Api, request: Request) -> Exchange:
    query = parse_qs(request.query)
    after, limit = query.get("after", ["0"])[0], query.get("limit", [str(MAX_ROWS)])[0]
    if not after.isdigit() or not limit.isdigit():
        return _json(400, {"error": "after and limit are whole numbers"})
    rows = b"".join(api.accounts.rows(int(after), min(int(limit), MAX_ROWS)))
    return Exchange(200, rows, b"application/x-ndjson")


def _faults(api: Api, request: Request) -> Exchange:
    try:
        body = orjson.loads(request.body)
        if not isinstance(body, dict):
            raise FaultError("send an object with rates, script or both")
        return _json(200, api.set_faults(body))
    except (orjson.JSONDecodeError, FaultError) as error:
        return _json(400, {"error": str(error)})


def _json(status: int, body: Any) -> Exchange:
    return Exchange(status, orjson.dumps(body))
