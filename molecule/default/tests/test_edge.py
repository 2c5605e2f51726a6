"""What people meet at the public door: maintenance, limits and errors in the promised shape."""

from __future__ import annotations

import contextlib
import socket

from site_under_test import Site


def test_maintenance_goes_on_and_off(site: Site) -> None:
    try:
        assert site.play("playbooks/maintenance.yml", "-e", "maintenance=on").status == 0
        page, api = site.ask("GET", "/"), site.ask("GET", "/api/me")
        assert page.status == 503 and b"<h1>" in page.body and int(page.header("retry-after")) > 0
        assert api.status == 503 and api.json()["error"]["code"] == "unavailable" and api.json()["error"]["retryable"]
        assert site.ask("GET", "/health").status == 200
        assert "maintenance is on" in site.play("playbooks/maintenance.yml", "-e", "maintenance=status").output
        again = site.play("playbooks/maintenance.yml", "-e", "maintenance=on")
        assert "changed=0 " in again.output
    finally:
        assert site.play("playbooks/maintenance.yml", "-e", "maintenance=off").status == 0
    assert site.ask("GET", "/").status == 200
    assert site.ask("GET", "/api/me").status == 401


def test_a_body_too_large_is_refused_in_our_shape(site: Site) -> None:
    answer = site.ask("POST", "/api/auth/login", body={"username": "x" * 3_000_000, "password": "y"})
    assert answer.status == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_every_answer_has_the_headers_once(site: Site) -> None:
    names = (
        "strict-transport-security",
        "x-frame-options",
        "x-content-type-options",
        "content-security-policy",
        "x-request-id",
    )
    for method, path in (
        ("GET", "/"),
        ("GET", "/nope"),
        ("GET", "/api/me"),
        ("GET", "/static/nope"),
        ("POST", "/api/auth/login"),
    ):
        answer = site.ask(method, path)
        for name in names:
            assert len([k for k, _ in answer.headers if k == name]) == 1, f"{name} on {method} {path}: {answer.headers}"
        assert "/" not in answer.header("server")


def test_a_name_that_is_not_ours_is_refused(site: Site) -> None:
    assert site.ask("GET", "/", headers={"Host": "stranger.invalid"}).status == 421
    with socket.create_connection((site.address, 80), 5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: stranger.invalid\r\n\r\n")
        # nginx may close it either way; what counts is that it says nothing
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(100) == b""


def test_a_slow_client_is_cut_off(site: Site) -> None:
    raw = socket.create_connection((site.address, 443), 30)
    with site.trust.wrap_socket(raw, server_hostname=site.address) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        slow.settimeout(20)
        assert slow.recv(100) == b"" or b"408" in slow.recv(100)
