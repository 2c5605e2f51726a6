#!/usr/bin/python
"""Ansible module: use a chat site as two people would, through its public address, and judge what they meet.

Owns the user-level half of the `verify` playbook: names, certificate, protocol versions, headers, reachable ports, logging in,
sockets, and that messages arrive once, in order, also over a broken connection. Runs on the control node with its own Python
(it needs the `websockets` package). Changes nothing but the probe conversation it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import time
import uuid
import warnings
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    # Not websockets.sync: its reader is a second thread, and Python before 3.13 lets two threads into one TLS connection at once.
    # About one handshake in a thousand was then never sent, and a site that was well looked dead for ten seconds.
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import WebSocketException
except ImportError:  # said by main(), in Ansible's words
    WebSocketException = None  # type: ignore[assignment,misc]

DOCUMENTATION = r"""
module: chat_probe
short_description: Use a chat site as two people would
options:
  url: {description: Public address of the site, type: str, required: true}
  ca_certificate: {description: PEM of the CA that must have signed it; empty is the system's trust, type: str, default: ""}
  http_port: {description: Port that redirects, type: int, default: 80}
  users: {description: Two people with username and password, type: list, elements: dict, required: true}
  conversation_id: {description: A conversation both are members of, type: int, required: true}
  hosts: {description: "name, address, open and closed ports of every host", type: list, elements: dict, default: []}
  days_minimum: {description: How long the certificate must still be good, type: int, default: 7}
  timeout_seconds: {description: How long any one answer may take, type: int, default: 10}
author: [Hockey Hub Chat]
"""

EXAMPLES = r"""
- name: Use the site
  chat_probe:
    url: https://chat.example.org
    users: "{{ probe.users }}"
    conversation_id: "{{ probe.conversation_id }}"
"""

RETURN = r"""
checks: {description: "name, ok and detail of every check", type: list, returned: always}
"""

Answer = TypeVar("Answer")

CONNECT_ATTEMPTS = 3

HEADERS = {
    "strict-transport-security": "max-age=",
    "x-frame-options": "SAMEORIGIN",
    "x-content-type-options": "nosniff",
    "x-xss-protection": "1; mode=block",
    "referrer-policy": "same-origin",
    "content-security-policy": "default-src 'self'",
    "x-request-id": "",
}


class ProbeError(Exception):
    """What was met is not what was promised; the message says so to a person."""


def expect(true: object, otherwise: str) -> None:
    """Raise ProbeError with a sentence unless something holds."""
    if not true:
        raise ProbeError(otherwise)


class Checks:
    """Collects one line per promise; a broken one does not stop the others."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, str]]:
        """Judge the block: it may put a word into ``note["detail"]``; any failure becomes this check's line."""
        note = {"detail": ""}
        try:
            yield note
        except (ProbeError, OSError, ValueError, KeyError, http.client.HTTPException, WebSocketException) as problem:
            self.lines.append({"name": name, "ok": False, "detail": str(problem) or type(problem).__name__})
        else:
            self.lines.append({"name": name, "ok": True, "detail": note["detail"]})


class Site:
    """The public address: how to connect to it and ask it."""

    def __init__(self, url: str, ca_certificate: str, http_port: int, timeout: float) -> None:
        parts = urlsplit(url)
        self.url = url.rstrip("/")
        self.name = parts.hostname or ""
        self.port = parts.port or 443
        self.http_port = http_port
        self.timeout = timeout
        self.trust = ssl.create_default_context(cadata=ca_certificate or None)
        self._loop = asyncio.new_event_loop()

    def wait(self, what: Coroutine[Any, Any, Answer], timeout: float | None = None) -> Answer:
        """Return what a socket's coroutine returns; raises TimeoutError after ``timeout`` seconds [as every answer]."""
        return self._loop.run_until_complete(asyncio.wait_for(what, self.timeout if timeout is None else timeout))

    def tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Open a TLS connection."""
        plain = socket.create_connection((self.name, self.port), self.timeout)
        return context.wrap_socket(plain, server_hostname=self.name)

    def ask(
        self, method: str, path: str, *, body: object = None, headers: dict[str, str] | None = None, plain: bool = False
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Make one request on a connection of its own; return status, headers in lower case, and body."""
        connection: http.client.HTTPConnection
        if plain:
            connection = http.client.HTTPConnection(self.name, self.http_port, timeout=self.timeout)
        else:
            connection = http.client.HTTPSConnection(self.name, self.port, timeout=self.timeout, context=self.trust)
        try:
            content = None if body is None else json.dumps(body)
            kind = {} if body is None else {"Content-Type": "application/json", "Origin": self.url}
            connection.request(method, path, content, {**kind, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, [(k.lower(), v) for k, v in answer.getheaders()], answer.read()
        finally:
            connection.close()


class Person:
    """One person logged in: cookie, and at most one socket."""

    def __init__(self, site: Site, username: str, password: str) -> None:
        self.site, self.username = site, username
        self._socket: ClientConnection | None = None
        status, headers, body = site.ask("POST", "/api/auth/login", body={"username": username, "password": password})
        expect(status == 200, f"logging in was answered {status}: {body[:200].decode(errors='replace')}")
        cookies = [value.split(";", 1) for name, value in headers if name == "set-cookie"]
        for pair, rest in cookies:
            for flag in ("HttpOnly", "Secure", "SameSite"):
                expect(flag.lower() in rest.lower(), f"the cookie {pair.split('=')[0]} is not {flag}")
        self.cookie = "; ".join(pair for pair, _ in cookies)
        expect("hhc_access=" in self.cookie, "logging in gave no hhc_access cookie")

    @property
    def socket(self) -> ClientConnection:
        """The open socket; raises ProbeError when a check before this one could not open it."""
        if self._socket is None:
            raise ProbeError("its socket could not be opened")
        return self._socket

    def _connect(self) -> ClientConnection:
        """Open a connection, trying again as docs/protocol.md asks of every client: a worker may be leaving just now."""
        for attempt in range(CONNECT_ATTEMPTS):
            try:
                return self.site.wait(self._opening())
            except (OSError, WebSocketException) as error:
                if attempt == CONNECT_ATTEMPTS - 1:
                    raise ProbeError(
                        f"no socket after {CONNECT_ATTEMPTS} tries: {type(error).__name__}: {error}"
                    ) from error
                time.sleep(1)
        raise AssertionError("unreachable")

    async def _opening(self) -> ClientConnection:
        return await connect(
            self.site.url.replace("https://", "wss://", 1) + "/ws",
            ssl=self.site.trust,
            additional_headers={"Cookie": self.cookie, "Origin": self.site.url},
            open_timeout=None,
            close_timeout=2,
            proxy=None,
        )

    def open(self, cursors: dict[str, int]) -> list[dict[str, Any]]:
        """Open the socket, resume from the cursors, and return the messages that had been missed."""
        self._socket = self._connect()
        self.take("hello")
        self.send({"type": "resume", "cursors": cursors})
        return self.take("resumed")[:-1]

    def send(self, frame: dict[str, Any]) -> None:
        """Send one frame."""
        self.site.wait(self.socket.send(json.dumps(frame)))

    def take(self, last: str, count: int = 1) -> list[dict[str, Any]]:
        """Return the `message` frames up to and with the count-th frame of the wanted type, that one included."""
        deadline, got, left = time.monotonic() + self.site.timeout, [], count
        while left:
            frame = json.loads(self.site.wait(self.socket.recv(), max(0.01, deadline - time.monotonic())))
            expect(frame["type"] != "error", f"the site refused a frame: {frame.get('code')}: {frame.get('message')}")
            if frame["type"] == last:
                left -= 1
            if frame["type"] in (last, "message"):
                got.append(frame)
        return got

    def drop(self) -> None:
        """Break the connection as a lost network would: no closing handshake."""
        self.socket.transport.abort()

    def leave(self) -> None:
        """Close the socket as a browser does."""
        self.site.wait(self.socket.close())


def check_edge(site: Site, checks: Checks, days_minimum: int) -> None:
    """Judge redirect, certificate, TLS and HTTP versions, headers, and what the public must not see."""
    with checks("Plain HTTP sends people to HTTPS"):
        status, headers, _ = site.ask("GET", "/some/page?x=1", plain=True)
        target = dict(headers).get("location", "")
        expect(status == 301 and target == f"{site.url}/some/page?x=1", f"answered {status} to {target or 'nowhere'}")
    with checks("The certificate is valid for this name") as note, site.tls(site.trust) as secure:
        ends = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
        days = int((ends - time.time()) / 86400)
        note["detail"] = f"{days} days left"
        expect(days >= days_minimum, f"it ends in {days} days")
    for version, name in ((ssl.TLSVersion.TLSv1_2, "TLS 1.2"), (ssl.TLSVersion.TLSv1_3, "TLS 1.3")):
        with checks(f"{name} is spoken"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = (
                False,
                ssl.CERT_NONE,
            )  # the check before judged the certificate
            context.minimum_version = context.maximum_version = version
            site.tls(context).close()
    with checks("TLS 1.1 is refused"):
        expect(refuses_tls_1_1(site), "a TLS 1.1 handshake went through")
    with checks("HTTP/2 is offered"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as above
        context.set_alpn_protocols(["h2", "http/1.1"])
        with site.tls(context) as secure:
            expect(secure.selected_alpn_protocol() == "h2", f"it chose {secure.selected_alpn_protocol()}")
    for path, wanted in (("/", 200), ("/api/no-such-thing", None), ("/static/no-such-file", 404), ("/metrics", 404)):
        with checks(f"Security headers are on {path}, each once"):
            check_headers(site, path, wanted)
    for path in ("/health", "/ready"):
        with checks(f"{path} answers"):
            status, _, body = site.ask("GET", path)
            expect(status == 200, f"answered {status}: {body[:200].decode(errors='replace')}")
    for path in ("/metrics", "/health/detailed"):
        with checks(f"{path} is not public"):
            status, _, _ = site.ask("GET", path)
            expect(status == 404, f"answered {status}")
    with checks("A name that is not ours is refused"):
        status, _, _ = site.ask("GET", "/", headers={"Host": "stranger.invalid"})
        expect(status == 421, f"answered {status}")


def refuses_tls_1_1(site: Site) -> bool:
    """Return whether the server ends a TLS 1.1 handshake; raises ProbeError when this computer cannot even ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over it
    context.set_ciphers("ALL:@SECLEVEL=0")  # this computer's own policy must not be what refuses
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of course it is deprecated
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        site.tls(context).close()
    except ssl.SSLError as refusal:
        expect(
            "NO_PROTOCOLS_AVAILABLE" not in str(refusal),
            "this computer's OpenSSL cannot speak TLS 1.1, so nothing was asked",
        )
        return True
    except ConnectionResetError:
        return True
    return False


def check_headers(site: Site, path: str, wanted: int | None) -> None:
    """Judge the headers of one answer; ``wanted`` is its status, None for any."""
    status, headers, _ = site.ask("GET", path)
    expect(wanted in (None, status), f"answered {status}")
    for name, value in HEADERS.items():
        found = [v for k, v in headers if k == name]
        expect(len(found) == 1, f"{name} was sent {len(found)} times")
        expect(found[0].startswith(value), f"{name} is {found[0]!r}")
    server = dict(headers).get("server", "")
    expect("/" not in server, f"the server tells its version: {server}")


def check_ports(hosts: list[dict[str, Any]], checks: Checks) -> None:
    """Judge for every host that the expected ports can be reached from here, and no other of those named."""

    def reachable(target: tuple[str, int]) -> bool:
        try:
            socket.create_connection(target, 2).close()
        except OSError:
            return False
        return True

    for host in hosts:
        with checks(f"{host['name']}: exactly its own ports are reachable") as note, ThreadPoolExecutor(32) as pool:
            opened, closed = [int(p) for p in host["open"]], [int(p) for p in host["closed"]]
            asked = [p for p in dict.fromkeys(opened + closed)]
            answers = dict(zip(asked, pool.map(reachable, [(host["address"], p) for p in asked]), strict=True))
            missing = [p for p in opened if not answers[p]]
            extra = [p for p in closed if answers[p] and p not in opened]
            note["detail"] = ", ".join(map(str, opened))
            expect(not missing, f"not reachable: {missing}")
            expect(not extra, f"reachable, but should not be: {extra}")


def check_chat(site: Site, checks: Checks, users: list[dict[str, Any]], conversation: int) -> None:
    """Judge logging in, sockets, and that messages arrive once and in order, also over a broken connection."""
    people: list[Person] = []
    with checks("Two people can log in, with safe cookies"):
        people = [Person(site, user["username"], user["password"]) for user in users[:2]]
    with checks("A wrong password is refused"):
        body = {"username": users[0]["username"], "password": "not the password"}
        status, _, _ = site.ask("POST", "/api/auth/login", body=body)
        expect(status == 401, f"answered {status}")
    with checks("A request from another site is refused"):
        expect(people, "nobody could log in")
        headers = {"Origin": "https://stranger.invalid", "Cookie": people[0].cookie}
        status, _, _ = site.ask("POST", "/api/conversations", body={}, headers=headers)
        expect(status == 403, f"answered {status}")
    with checks("Both open a socket"):
        expect(len(people) == 2, "nobody could log in")
        for person in people:
            person.open({})
    with checks("What one sends the other receives, once and in order") as note:
        begin = time.monotonic()
        first = say(people[0], conversation, "one", "two", "three")
        got = [f for f in people[1].take("message", 3)]
        note["detail"] = f"3 messages in {(time.monotonic() - begin) * 1000:.0f} ms"
        expect([f["body"] for f in got] == ["one", "two", "three"], f"received {[f['body'] for f in got]}")
        expect([f["seq"] for f in got] == [a["seq"] for a in first], "numbers differ between sender and receiver")
    with checks("A broken connection resumes with exactly what was missed"):
        cursor = got[-1]["seq"]
        people[1].drop()
        missed = say(people[0], conversation, "four", "five", "six")
        again = people[1].open({str(conversation): cursor})
        expect([f["body"] for f in again] == ["four", "five", "six"], f"received {[f['body'] for f in again]}")
        expect([f["seq"] for f in again] == list(range(cursor + 1, cursor + 4)), "numbers are not gapless")
    with checks("Sending again with the same client_id makes no second message"):
        people[0].send(
            {"type": "send", "client_id": missed[-1]["client_id"], "conversation_id": conversation, "body": "six"},
        )
        ack = people[0].take("ack")[-1]
        expect(ack["seq"] == missed[-1]["seq"], f"acknowledged as {ack['seq']}, first as {missed[-1]['seq']}")
        answer = say(people[1], conversation, "seven")
        expect(answer[0]["seq"] == ack["seq"] + 1, f"the next message has number {answer[0]['seq']}")
    for person in people:
        with contextlib.suppress(ProbeError, OSError, WebSocketException):  # a check above said what is wrong already
            person.leave()


def say(person: Person, conversation: int, *bodies: str) -> list[dict[str, Any]]:
    """Send messages and return their acknowledgements in the order sent."""
    ids = [str(uuid.uuid4()) for _ in bodies]
    for client_id, body in zip(ids, bodies, strict=True):
        person.send({"type": "send", "client_id": client_id, "conversation_id": conversation, "body": body})
    acks = {f["client_id"]: f for f in person.take("ack", len(bodies)) if f["type"] == "ack"}
    return [acks[client_id] for client_id in ids]


def main() -> None:
    """Judge everything; never fail by itself: the playbook reports all lines together."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "ca_certificate": {"type": "str", "default": ""},
            "http_port": {"type": "int", "default": 80},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                # Only the password is a secret: were the whole list one, Ansible would hide every "1" of the report.
                "options": {
                    "username": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            "conversation_id": {"type": "int", "required": True},
            "hosts": {"type": "list", "elements": "dict", "default": []},
            "days_minimum": {"type": "int", "default": 7},
            "timeout_seconds": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    if WebSocketException is None:
        module.fail_json(msg=missing_required_lib("websockets"))
    given = module.params
    checks = Checks()
    site = Site(given["url"], given["ca_certificate"], given["http_port"], given["timeout_seconds"])
    check_edge(site, checks, given["days_minimum"])
    check_ports(given["hosts"], checks)
    check_chat(site, checks, given["users"], given["conversation_id"])
    module.exit_json(changed=False, checks=checks.lines)


if __name__ == "__main__":
    main()
