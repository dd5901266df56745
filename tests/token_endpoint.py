"""A token endpoint as an identity provider has one: client credentials for a token that lives for some seconds.

client → [token endpoint], client → broker (which believes tokens without a signature)
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class TokenEndpoint(ThreadingHTTPServer):
    """Knows one secret; a client's id is the name that brokers know it by."""

    daemon_threads = True

    def __init__(self, secret: str, life_seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secret, self.life_seconds = secret, life_seconds
        self.issued: list[str] = []
        self.refused = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/oauth2/token"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is not worth a traceback."""

    def token_for(self, client: str) -> str:
        now = int(time.time())
        claims = {"sub": client, "iat": now - 1, "exp": now + self.life_seconds}
        token = ".".join([*(_encoded(part) for part in ({"alg": "none"}, claims)), ""])
        self.issued.append(token)
        return token


class _Handler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        is_asked_right = b"grant_type=client_credentials" in self.rfile.read(length)
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        client, _, secret = given.partition(":")
        if unquote(secret) == self.server.secret and is_asked_right:
            self._answer(200, {"access_token": self.server.token_for(unquote(client)), "token_type": "Bearer"})
        else:
            self.server.refused += 1
            self._answer(401, {"error": "invalid_client", "error_description": "who are you?"})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not on the test's output."""


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@contextmanager
def token_endpoint(secret: str, life_seconds: float) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(secret, life_seconds) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()
