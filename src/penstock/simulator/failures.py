"""What the API answers when it does not answer: one class per way, with body and headers as the real ones.

validation | limiter | faults → [failures] → api
"""

from __future__ import annotations

import orjson

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiError(Exception):
    """A call that ends in an error status. `headers` are those beyond what every reply carries."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        html: bool = False,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers
        self.html = html
        self.kind = kind or TYPES.get(status, "api_error")

    @property
    def content_type(self) -> str:
        """Edge proxies answer in HTML, the API itself always in JSON."""
        return "text/html; charset=UTF-8" if self.html else "application/json"

    def body(self, request_id: str) -> bytes:
        """The body; the id in it equals the `request-id` header."""
        if self.html:
            return (
                f"<html>\r\n<head><title>{self.status} {self.message}</title></head>\r\n<body>\r\n"
                f"<center><h1>{self.status} {self.message}</h1></center>\r\n<hr><center>edge</center>\r\n</body>\r\n</html>\r\n"
            ).encode()
        error: dict[str, object] = {"type": self.kind, "message": self.message}
        if self.code:
            error["details"] = {"error_code": self.code}
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


class BadRequest(ApiError):
    """400: what the real API rejects."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(400, message, code=code)
