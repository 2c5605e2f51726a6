"""A small HTTP client: cookies, JSON, our own Origin, TCP or unix socket. Nothing of the application."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from http.cookies import Morsel, SimpleCookie
from typing import Any


@dataclass(frozen=True)
class Response:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The code of an error answer."""
        code: str = self.json()["error"]["code"]
        return code

    def cookies(self) -> dict[str, Morsel[str]]:
        """Return the cookies it sets, with their attributes."""
        found: dict[str, Morsel[str]] = {}
        for line in self.headers.get_all("Set-Cookie") or []:
            found.update(SimpleCookie(line).items())
        return found

    def expect(self, *statuses: int) -> Response:
        """Return itself, or fail showing the body."""
        assert self.status in statuses, f"HTTP {self.status}, not {statuses}: {self.body[:2000]!r}"
        return self


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Api:
    """One browser's worth of HTTP: keeps cookies, sends ``Origin`` with everything that changes state.

    Args:
        address: (host, port) or the path of a unix socket.
        origin: the ``Origin`` header, or None for none.
    """

    def __init__(self, address: tuple[str, int] | str, origin: str | None, timeout: float = 20) -> None:
        self.address = address
        self.origin = origin
        self.timeout = timeout
        self.cookies: dict[str, str] = {}

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Response:
        """Send one request on a connection of its own and return the answer."""
        sent: dict[str, str] = {}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if self.origin is not None and method != "GET":
            sent["Origin"] = self.origin
        payload = raw
        if body is not None:
            payload = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        if isinstance(self.address, str):
            connection: http.client.HTTPConnection = _UnixConnection(self.address, self.timeout)
        else:
            connection = http.client.HTTPConnection(*self.address, timeout=self.timeout)
        try:
            connection.request(method, path, payload, sent)
            answer = connection.getresponse()
            response = Response(answer.status, answer.headers, answer.read())
        finally:
            connection.close()
        for name, morsel in response.cookies().items():
            if morsel.value and morsel["max-age"] != "0":
                self.cookies[name] = morsel.value
            else:
                self.cookies.pop(name, None)
        return response

    def get(self, path: str, **more: Any) -> Response:
        """GET."""
        return self.request("GET", path, **more)

    def post(self, path: str, body: object = None, **more: Any) -> Response:
        """POST."""
        return self.request("POST", path, body, **more)

    def put(self, path: str, body: object = None, **more: Any) -> Response:
        """PUT."""
        return self.request("PUT", path, body, **more)

    def delete(self, path: str, **more: Any) -> Response:
        """DELETE."""
        return self.request("DELETE", path, **more)

    def login(self, username: str, password: str) -> Response:
        """Log in; the cookies are kept."""
        return self.post("/api/auth/login", {"username": username, "password": password})
