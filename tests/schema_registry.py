"""A small schema registry on loopback: what tests need of the real one's API, with its error bodies, and faults on order."""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TYPES = ["JSON", "PROTOBUF", "AVRO"]


class LocalRegistry:
    """Holds schemas by id. `answer_all` replaces every answer; `stop` and `start` keep the port."""

    def __init__(self, credentials: str = "") -> None:
        self.credentials = credentials
        self.schemas: dict[int, dict] = {}
        self.versions: dict[tuple[str, int], int] = {}
        self.requests: list[str] = []
        self.answer_all: tuple[int, bytes] | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), type("Handler", (_Handler,), {"registry": self}))
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def register(self, subject: str, schema: dict) -> dict:
        known = next((i for i, kept in self.schemas.items() if kept["schema"] == schema["schema"]), None)
        number = known or len(self.schemas) + 101
        self.schemas.setdefault(number, {"guid": str(uuid.uuid4()), **schema})
        version = 1 + sum(name == subject for name, _ in self.versions)
        self.versions[subject, version] = number
        return {"id": number, "guid": self.schemas[number]["guid"], "subject": subject, "version": version, **schema}

    def asked(self, what: str) -> int:
        return sum(what in request for request in self.requests)

    def get(self, path: str, fmt: str) -> tuple[int, object]:
        if path == "/schemas/types":
            return 200, TYPES
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            return self._shown(int(found[1]), fmt)
        if found := re.fullmatch(r"/schemas/guids/(.+)", path):
            number = next((i for i, kept in self.schemas.items() if kept["guid"] == found[1]), 0)
            return self._shown(number, fmt)
        if found := re.fullmatch(r"/subjects/(.+)/versions/(\d+)", path):
            number = self.versions.get((found[1], int(found[2])), 0)
            status, shown = self._shown(number, fmt)
            return status, {"subject": found[1], "version": int(found[2]), "id": number, **shown}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _shown(self, number: int, fmt: str) -> tuple[int, dict]:
        schema = self.schemas.get(number)
        if schema is None:
            return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
        if schema.get("schemaType") == "PROTOBUF" and fmt != "serialized":
            return 200, {**schema, "schema": 'syntax = "proto3"; // the text, as registries give it unless asked'}
        return 200, schema


class _Handler(BaseHTTPRequestHandler):
    registry: LocalRegistry

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        fmt = parse_qs(url.query).get("format", [""])[0]
        self._answer(lambda: self.registry.get(url.path, fmt))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        subject = urlsplit(self.path).path.split("/")[2]
        self._answer(lambda: (200, self.registry.register(subject, body)))

    def _answer(self, act) -> None:
        self.registry.requests.append(f"{self.command} {self.path}")
        self.registry.go_on.wait(10)
        expected = "Basic " + base64.b64encode(self.registry.credentials.encode()).decode()
        if self.registry.answer_all:
            status, content = self.registry.answer_all
        elif self.registry.credentials and self.headers["Authorization"] != expected:
            status, content = 401, json.dumps({"error_code": 401, "message": "Unauthorized"}).encode()
        else:
            status, shown = act()
            content = json.dumps(shown).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""
