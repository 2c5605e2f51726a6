"""The quick way through a handshake: lets in plain ones from our own site, and nothing else. What Flask says of the rest is in e2e."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from hockey_hub_chat.config import Settings
from hockey_hub_chat.web import handshake

ORIGIN = "https://chat.example.org"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TOKEN = "aaa.bbb-_.ccc"
PLAIN = {
    "Host": "chat.example.org",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
    "Origin": ORIGIN,
    "Cookie": f"hhc_access={TOKEN}",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a site with an address."""
    return Settings(data_dir=tmp_path, public_url=ORIGIN)


def head(changes: dict[str, str | None] | None = None, line: str = "GET /ws HTTP/1.1") -> bytes:
    """A handshake with some fields changed, or left out (None)."""
    fields = {**PLAIN, **(changes or {})}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_the_answer_is_the_one_of_the_rfc() -> None:
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in handshake.answer(KEY.encode())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket"},
        {"Cookie": f"theme=dark; hhc_access={TOKEN}; hhc_other=1"},
        {"X-Real-IP": "192.0.2.7", "X-Request-ID": "0123456789abcdef", "User-Agent": "Mozilla/5.0 (X11; Linux)"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Origin": None},
        {"Origin": ORIGIN.upper()},
        {"Origin": None, "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_plain_handshakes_are_let_in(settings: Settings, changes: dict[str, str | None]) -> None:
    assert handshake.read(head(changes), settings) == (TOKEN, KEY.encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"Host": None},
        {"Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": None},
        {"Connection": "close"},
        {"Sec-WebSocket-Key": None},
        {"Sec-WebSocket-Key": base64.b64encode(b"15 bytes, short").decode()},
        {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZR=="},  # not what 16 bytes encode to
        {"Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": None},
        {"Sec-WebSocket-Protocol": "chat"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": ORIGIN + ".elsewhere.example"},
        {"Origin": None, "Sec-Fetch-Site": "cross-site"},
        {"Cookie": None},
        {"Cookie": "hhc_access="},
        {"Cookie": f'hhc_access="{TOKEN}"'},
        {"Cookie": f"xhhc_access={TOKEN}"},
        {"Cookie": f"hhc_access={TOKEN}; hhc_access=other"},
        {"Cookie": f"hhc_access={TOKEN}", "cookie": "hhc_access=other"},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Expect": "100-continue"},
        {"X-Folded": "a\r\n b"},
        {"X-Empty": ""},
        {"X-Odd": "caf\u00e9"},
        {"X-Null": "a\0b"},
        {"Bad Name": "x"},
    ],
    ids=str,
)
def test_anything_unusual_is_left_to_flask(settings: Settings, changes: dict[str, str | None]) -> None:
    assert handshake.read(head(changes), settings) is None


@pytest.mark.parametrize(
    "line",
    [
        "POST /ws HTTP/1.1",
        "GET /ws HTTP/1.0",
        "GET /ws/ HTTP/1.1",
        "GET /ws?x=1 HTTP/1.1",
        "GET  /ws HTTP/1.1",
        "get /ws HTTP/1.1",
    ],
)
def test_another_request_is_left_to_flask(settings: Settings, line: str) -> None:
    assert handshake.read(head(line=line), settings) is None


def test_a_part_of_a_head_and_what_follows_one_are_left_to_flask(settings: Settings) -> None:
    whole = head()
    assert all(handshake.read(whole[:end], settings) is None for end in range(len(whole)))
    for more in (b"\x81\x80\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", b"\r\n"):
        assert handshake.read(whole + more, settings) is None
    assert handshake.read(whole.replace(b"\r\n", b"\n"), settings) is None


def test_noise_in_a_head_never_changes_whose_token_is_believed(settings: Settings) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311  # a game, not a secret
    for _ in range(5000):
        noisy = bytearray(head())
        for _ in range(chance.randint(1, 3)):
            noisy[chance.randrange(len(noisy))] = chance.randrange(256)
        found = handshake.read(bytes(noisy), settings)
        if found is not None:
            assert f"hhc_access={found[0]}".encode() in noisy and found[1] in noisy


def test_a_site_without_an_address_believes_the_host_that_was_asked(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    local: dict[str, str | None] = {"Host": "127.0.0.1:3002", "Origin": "http://127.0.0.1:3002"}
    assert handshake.read(head(local), settings) is not None
    assert handshake.read(head({**local, "Origin": "http://127.0.0.1:3003"}), settings) is None
    assert handshake.read(head({**local, "Origin": "http://["}), settings) is None
