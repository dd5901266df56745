"""What can be looked up: models with their capabilities, and the organization's rate limits.

api → [catalogue]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from penstock.simulator.failures import ApiError, BadRequest
from penstock.simulator.models import BY_NAME, MODELS, describe

if TYPE_CHECKING:
    from penstock.simulator.exchange import Request
    from penstock.simulator.limits import Limits

ADMIN_KEY = b"sk-ant-admin"
MAX_PAGE = 1000
LIFECYCLES = ("active", "deprecated", "retired")


def models(request: Request) -> dict[str, Any]:
    """`GET /v1/models` and `GET /v1/models/{id}`."""
    _only_get(request)
    name = request.path.removeprefix("/v1/models").strip("/")
    if name:
        if name not in BY_NAME:
            raise ApiError(404, f"model: {name}")
        return describe(BY_NAME[name])
    query = parse_qs(request.query)
    wanted = query.get("lifecycle[]") or query.get("lifecycle") or ["active", "deprecated"]
    for lifecycle in wanted:
        if lifecycle not in LIFECYCLES:
            raise BadRequest("lifecycle: Input should be 'active', 'deprecated' or 'retired'")
    found = [model for model in MODELS if model.lifecycle in wanted]
    return _page([describe(model) for model in found], query)


def _page(rows: list[dict[str, Any]], query: dict[str, list[str]]) -> dict[str, Any]:
    limit = _limit(query, 20)
    ids = [row["id"] for row in rows]
    start, stop = 0, len(rows)
    if "after_id" in query:
        start = _at(ids, "after_id", query) + 1
    if "before_id" in query:
        stop = _at(ids, "before_id", query)
        start = max(start, stop - limit)
    page = rows[start : min(stop, start + limit)]
    more = start > 0 if "before_id" in query else start + limit < stop
    return {
        "data": page,
        "has_more": more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _at(ids: list[str], key: str, query: dict[str, list[str]]) -> int:
    if query[key][0] not in ids:
        raise BadRequest(f"{key}: no such model: {query[key][0]}")
    return ids.index(query[key][0])


def _limit(query: dict[str, list[str]], default: int) -> int:
    text = query.get("limit", [str(default)])[0]
    if not text.isdigit() or not 1 <= int(text) <= MAX_PAGE:
        raise BadRequest(f"limit: Input should be from 1 to {MAX_PAGE}")
    return int(text)


def rate_limits(request: Request, limits: Limits, key: bytes) -> dict[str, Any]:
    """`GET /v1/organizations/rate_limits`, for admin keys."""
    _only_get(request)
    if not key.startswith(ADMIN_KEY):
        raise ApiError(403, "This endpoint needs an Admin API key (sk-ant-admin…).")
    query = parse_qs(request.query)
    rows = [_model_group(pool, limits) for pool in limits.families()]
    rows.append(_group("token_count", [("requests_per_minute", limits.count_rate)]))
    wanted = query.get("group_type", [""])[0]
    if wanted:
        rows = [row for row in rows if row["group"]["type"] == wanted]
    if "model" in query:
        rows = [row for row in rows if query["model"][0] in (row["models"] or ())]
        if not rows:
            raise ApiError(404, f"model: {query['model'][0]}")
    start = _start(query, len(rows))
    stop = start + _limit(query, MAX_PAGE)
    return {"data": rows[start:stop], "next_page": f"page_{stop}" if stop < len(rows) else None}


def _start(query: dict[str, list[str]], rows: int) -> int:
    text = query.get("page", ["page_0"])[0].removeprefix("page_")
    if not text.isdigit() or int(text) > rows:
        raise BadRequest("page: not a cursor of this list")
    return int(text)


def _model_group(pool: str, limits: Limits) -> dict[str, Any]:
    family = limits.families()[pool]
    rates = limits.rates(family[0])
    row = _group(
        "model_group",
        [
            ("requests_per_minute", rates.requests),
            ("input_tokens_per_minute_cache_aware", rates.input_tokens),
            ("output_tokens_per_minute", rates.output_tokens),
        ],
        pool,
    )
    row["group"]["display_name"] = (
        family[0].display_name if len(family) == 1 else f"Claude {pool.title().replace('-', ' ')}.x"
    )
    row["models"] = [name for model in family for name in (model.id, *model.aliases)]
    return row


def _group(kind: str, limits: list[tuple[str, int]], name: str = "") -> dict[str, Any]:
    label = (name or kind).replace("-", "").replace("_", "")
    return {
        "id": f"rl_01{label}",
        "type": "rate_limit",
        "group": {"id": f"rlg_01{label}", "type": kind},
        "models": None,
        "limits": [{"type": limiter, "value": value} for limiter, value in limits],
    }


def _only_get(request: Request) -> None:
    if request.method != "GET":
        raise ApiError(405, "Method Not Allowed")
