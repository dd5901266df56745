"""The OpenAPI document is true: requests made from it by schemathesis get the answers that it names, and nothing breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway_calls import PATIENCE_SECONDS, made_key, options_in, order_task, started
from penstock.log.sqlite import SqliteLog, SqliteOptions
from penstock.log.topics import topic_specs
from penstock.web.build import build_server

pytestmark = pytest.mark.slow
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    positive_data_acceptance,
    unsupported_method,
    ignored_auth,
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Where a gateway with keys listens, on a loop of its own, and a key."""
    directory: Path = tmp_path_factory.mktemp("gateway")
    options = options_in(directory, auth="keys", max_wait_seconds=0.1)
    key = made_key(options.keys_file)
    told: list[str] = []
    is_up = threading.Event()
    stop: list = []

    async def serve() -> None:
        log = SqliteLog(directory / "log.db", options=SqliteOptions(synchronous="normal"))
        task = order_task()
        await log.create_topics(topic_specs(task, 3))
        server = build_server([task], log, options)
        running = asyncio.create_task(server.run())
        await started(server, running)
        told.append(server.url)
        stop.extend([asyncio.get_running_loop(), server.stop])
        is_up.set()
        await running

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert is_up.wait(PATIENCE_SECONDS), "the gateway is not up"
    yield told[0], key
    stop[0].call_soon_threadsafe(stop[1])
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "the gateway did not end when it was told to"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/events", "POST"), ("/v1/events/{event_id}", "GET"), ("/livez", "GET"), ("/readyz", "GET")],
)
def test_the_document_is_true(address, path, method):
    """Whatever is made from the document is answered as the document says; what it calls right is accepted."""
    url, key = address
    schema = schemathesis.openapi.from_dict(requests.get(f"{url}/openapi.json", timeout=10).json())
    headers = {"Authorization": f"Bearer {key}"}

    @hypothesis.settings(
        max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(case=schema[path][method].as_strategy())
    def holds(case):
        case.call_and_validate(base_url=url, headers=headers, checks=CHECKS, timeout=PATIENCE_SECONDS)

    holds()
