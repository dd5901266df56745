"""The endpoints: what each path answers, in the order in which the real API decides.

http → [api] → validation → faults → limiter → replies → accounts → http

Everything is decided when the body has arrived; only the writing of a reply waits for its latency. So a call is
billed whether or not its client is still there.
"""

from __future__ import annotations

import logging
import math
import random
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from penstock.simulator import admin, catalogue
from penstock.simulator.accounts import Accounts, Call
from penstock.simulator.answers import Judge, read_book
from penstock.simulator.cache import CacheUse, PromptCache
from penstock.simulator.clock import Clock, SystemClock
from penstock.simulator.envelope import is_call, key_of, served_model, text_of, wrap
from penstock.simulator.exchange import Exchange
from penstock.simulator.failures import ApiError, BadRequest
from penstock.simulator.faults import HEADER, STATUSES, Fault, FaultError, Faults, read_fault, read_header, read_rates
from penstock.simulator.limits import Limits
from penstock.simulator.models import bill_nanousd
from penstock.simulator.replies import Composer, Reply
from penstock.simulator.spend import SpendCap
from penstock.simulator.validation import Ask, check_version, parse_body, read_ask

if TYPE_CHECKING:
    from penstock.simulator.exchange import Request
    from penstock.simulator.options import SimulatorOptions

log = logging.getLogger(__name__)
ORGANIZATION = "5a1d1a7e-0000-4000-8000-70656e73746f"


class Api:
    """One simulated account."""

    def __init__(self, options: SimulatorOptions, clock: Clock | None = None) -> None:
        self.options = options
        self.clock = clock or SystemClock()
        self.stall_seconds = options.stall_seconds
        self.drip_seconds = options.drip_ms / 1000.0
        self.accounts = Accounts()
        self._faults = Faults(
            options.seed, read_rates(dict(options.fault_rates)), map(read_fault, options.fault_script)
        )
        self._composer = Composer(Judge(options.seed, read_book(options.answer_book) if options.answer_book else {}), options.refusal_marker)  # fmt: skip
        self.start()

    def start(self) -> None:
        """Begin with full buckets, an empty cache and empty accounts."""
        options = self.options
        self.accounts.reset()
        self.limits = Limits(options, self.clock)
        self._cache = PromptCache(self.clock)
        cap = None if options.spend_cap_usd is None else round(options.spend_cap_usd * 1e9)
        self._spend = SpendCap(cap, options.spend_cap_kind, self.clock)
        self._random = random.Random(f"latency {options.seed}")
        self._schemas: set[bytes] = set()
        self._started = self.clock.monotonic()

    def early(self, request: Request) -> Call | None:
        """A call whose connection is to be cut before its body is read; it is counted and costs nothing."""
        if not is_call(request):
            return None
        fault = self._override(request) or self._faults.early()
        if fault is None or fault.kind != "reset_before":
            return None
        call = self.accounts.begin(self._now_ms())
        call.fault = fault.kind
        self.accounts.end(call, call.started_ms, delivered=False)
        return call

    def handle(self, request: Request) -> Exchange:
        """Answer one request."""
        if request.path.startswith("/simulator/"):
            return admin.handle(self, request)
        if is_call(request):
            return self._create(request)
        request_id = self.accounts.next_id()
        try:
            return self._other(request, request_id)
        except ApiError as error:
            return self._failed(error, request_id, request)
        except RecursionError:
            return self._failed(BadRequest("The request body is nested too deeply"), request_id, request)

    def set_faults(self, body: dict[str, Any]) -> dict[str, Any]:
        """Replace rates, script or both."""
        unknown = body.keys() - {"rates", "script"}
        if unknown:
            raise FaultError(f"no {', '.join(sorted(unknown))} here; there are rates and script")
        rates = read_rates(body["rates"]) if "rates" in body else None
        script = [read_fault(fault) for fault in body["script"]] if "script" in body else None
        self._faults.set(rates, script)
        return {"script_left": self._faults.left}

    def totals(self) -> dict[str, Any]:
        """The accounts, with the state of limits and script."""
        return self.accounts.totals() | {
            "count_tokens_calls": self.limits.counted,
            "pools": self.limits.used(),
            "script_left": self._faults.left,
            "uptime_seconds": round(self.clock.monotonic() - self._started, 3),
        }

    def workspace(self, request: Request) -> str:
        """Keys stand for workspaces unless the request names one."""
        named = request.headers.get(b"anthropic-workspace-id")
        if named:
            return named.decode("latin-1")
        return f"wrkspc_01{blake2b(key_of(request), digest_size=11).hexdigest()}"

    def _create(self, request: Request) -> Exchange:
        call = self.accounts.begin(self._now_ms())
        request_id = self.accounts.request_id(call.number)
        try:
            exchange = self._answer(request, call, request_id)
        except ApiError as error:
            exchange = self._failed(error, request_id, request, call)
        except RecursionError:
            exchange = self._failed(BadRequest("The request body is nested too deeply"), request_id, request, call)
        except Exception:
            # A mistake of the simulator's own must look like any server's, and be seen.
            log.exception("request %s failed", request_id)
            exchange = self._failed(ApiError(500, STATUSES["500"]), request_id, request, call)
        call.status = exchange.status if exchange.manner not in ("reset_after", "stall") else 0
        exchange.ends = lambda delivered: self.accounts.end(call, self._now_ms(), delivered=delivered)
        return exchange

    def _answer(self, request: Request, call: Call, request_id: str) -> Exchange:
        self._authenticate(request)
        version = check_version(request.headers)
        if request.failure is not None:
            raise request.failure
        body = parse_body(request.body)
        call.model = served_model(body.get("model"))
        fault = self._fault(request, body, call)
        ask = read_ask(body, version)
        self._spend.check()
        if 0 < self.options.max_in_flight < self.accounts.in_flight:
            raise ApiError(529, STATUSES["529"])
        use = self._cache.look(self.workspace(request), ask)
        pool = self.limits.admit(ask.model, use.usage)
        reply = self._composer.compose(ask, fault.kind if fault else "")
        self._bill(call, ask, use, reply, request)
        manner = fault.kind if fault and fault.kind in ("reset_after", "stall", "drip") else ""

        def begins() -> None:
            self._cache.publish(use)
            pool.produce(reply.output_tokens)

        return Exchange(
            200,
            wrap(ask, use, reply, request_id),
            request_id=request_id,
            headers=pool.headers() + self._identity(request),
            delay_seconds=self._latency_seconds(reply.items, ask),
            manner=manner,
            begins=begins,
        )

    def _fault(self, request: Request, body: dict[str, Any], call: Call) -> Fault | None:
        """The fault of this call; those that are an error reply are raised."""
        fault = self._override(request)
        if fault is None:
            fault = self._faults.late(text_of(body), str(body.get("model")))
        if fault is None:
            return None
        call.fault = fault.kind
        if fault.status:
            raise fault.error(self.clock.unix())
        return fault

    def _bill(self, call: Call, ask: Ask, use: CacheUse, reply: Reply, request: Request) -> None:
        usage = use.usage
        usage.output, usage.thinking = reply.output_tokens, reply.thinking_tokens
        call.usage, call.items = usage, reply.items
        call.body_hash = hash(request.body)
        if reply.billed:
            call.nanousd = bill_nanousd(ask.model, usage, regional=ask.regional, fast=ask.fast)
            self._spend.add(call.nanousd)
            self.accounts.bill(call, reply.hashes)

    def _other(self, request: Request, request_id: str) -> Exchange:
        self._authenticate(request)
        if request.failure is not None:
            raise request.failure
        if request.path == "/v1/messages/count_tokens":
            return self._count(request, request_id)
        if request.path.startswith("/v1/messages/batches"):
            raise ApiError(404, "The Penstock simulator does not have message batches.")
        check_version(request.headers)
        if request.path.startswith("/v1/models"):
            found = catalogue.models(request)
        elif request.path == "/v1/organizations/rate_limits":
            found = catalogue.rate_limits(request, self.limits, key_of(request))
        else:
            raise ApiError(404, f"Not found: {request.method} {request.path}")
        return Exchange(200, orjson.dumps(found), request_id=request_id, headers=self._identity(request))

    def _count(self, request: Request, request_id: str) -> Exchange:
        if request.method != "POST":
            raise ApiError(405, "Method Not Allowed")
        ask = read_ask(parse_body(request.body), check_version(request.headers), counting=True)
        self.limits.admit_count()
        tokens = ask.fixed_tokens + ask.prompt.tokens
        # An estimate: off by up to one per cent, always in the same way for the same text.
        tokens += tokens * (blake2b(request.body, digest_size=1).digest()[0] - 128) // 12_800
        body = orjson.dumps({"input_tokens": tokens})
        return Exchange(200, body, request_id=request_id, headers=self.limits.count_headers() + self._identity(request))

    def _failed(self, error: ApiError, request_id: str, request: Request, call: Call | None = None) -> Exchange:
        extra = "".join(f"{name}: {value}\r\n" for name, value in error.headers).encode("latin-1")
        limits = self.limits.headers_of(call.model) if call and call.model else b""
        return Exchange(
            error.status,
            error.body(request_id),
            error.content_type.encode("ascii"),
            request_id=request_id,
            headers=extra + limits + self._identity(request),
            close=request.failure is not None,
        )

    def _authenticate(self, request: Request) -> None:
        key = key_of(request)
        if not key:
            raise ApiError(401, "x-api-key header is required")
        if self.options.api_keys and key.decode("latin-1") not in self.options.api_keys:
            raise ApiError(401, "invalid x-api-key")

    def _identity(self, request: Request) -> bytes:
        return f"anthropic-organization-id: {ORGANIZATION}\r\nanthropic-workspace-id: {self.workspace(request)}\r\n".encode(
            "latin-1"
        )

    def _latency_seconds(self, items: int, ask: Ask) -> float:
        options = self.options
        milliseconds = options.latency_ms + options.per_item_ms * items
        if options.jitter and milliseconds:
            milliseconds *= math.exp(self._random.gauss(0.0, options.jitter))
            if self._random.random() < 0.01:
                milliseconds *= 1.0 + min(self._random.paretovariate(1.5), 10.0)
        if options.schema_compile_ms and ask.grammar and ask.grammar.canonical not in self._schemas:
            self._schemas.add(ask.grammar.canonical)
            milliseconds += options.schema_compile_ms
        return milliseconds / 1000.0

    def _now_ms(self) -> int:
        return int(self.clock.unix() * 1000)

    @staticmethod
    def _override(request: Request) -> Fault | None:
        value = request.headers.get(HEADER)
        if value is None:
            return None
        try:
            return read_header(value)
        except FaultError as error:
            raise BadRequest(f"{HEADER.decode()}: {error}") from None
