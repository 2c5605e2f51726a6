"""A complete client in a few lines: logs in, keeps one connection, loses nothing. It knows docs/protocol.md and nothing else.

    pip install websockets
    PASSWORD=… python client.py https://chat.example.org ann CONVERSATION_ID

Each line of standard input is sent; what anybody says is printed. It ends when the input has ended and everything is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import urllib.error
import urllib.request
import uuid
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake


class Client:
    """One person on one site."""

    def __init__(self, site: str, username: str, password: str) -> None:
        self.site, self.log_in = site.rstrip("/"), {"username": username, "password": password}
        self.access: str | None = None
        self.cursors: dict[str, int] = {}  # conversation: the newest seq we hold
        self.unacknowledged: dict[str, dict[str, Any]] = {}  # by client_id: sent again until it is acknowledged
        self.retries: set[asyncio.Task[None]] = set()  # kept: asyncio itself forgets what nobody holds
        self.socket: ClientConnection | None = None
        self.moved = asyncio.Event()

    def authenticate(self) -> None:
        """Log in over HTTP; waits."""
        body = json.dumps(self.log_in).encode()
        request = urllib.request.Request(f"{self.site}/api/auth/login", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            cookies = answer.headers.get_all("Set-Cookie")
        self.access = next(c.split(";")[0].split("=", 1)[1] for c in cookies if c.startswith("hhc_access="))

    async def send(self, conversation_id: int, body: str) -> None:
        """Send a message, now or when there is a connection."""
        client_id = str(uuid.uuid4())  # made once: however often it is sent, there will be one message
        frame = {"type": "send", "client_id": client_id, "conversation_id": conversation_id, "body": body}
        self.unacknowledged[client_id] = frame
        await self.push(client_id)

    async def push(self, client_id: str, after_ms: int = 0) -> None:
        """Send what is not acknowledged; when that fails the next ``resumed`` does it."""
        await asyncio.sleep(after_ms / 1000)
        try:
            if self.socket and client_id in self.unacknowledged:
                await self.socket.send(json.dumps(self.unacknowledged[client_id]))
        except ConnectionClosed:
            pass

    async def handle(self, frame: dict[str, Any], socket: ClientConnection) -> None:
        """Take one frame of the server."""
        kind, client_id, room = frame["type"], frame.get("client_id"), str(frame.get("conversation_id"))
        if kind == "message":
            self.cursors[room] = frame["seq"]
            print(f"{room}#{frame['seq']} {frame['sender_id']}: {frame['body']}", flush=True)
        elif kind in ("conversation_added", "gap"):  # of a gap: page /api/conversations/{id}/messages, if it matters
            self.cursors[room] = frame["last_seq"]
        elif kind == "resumed":
            self.cursors = {key: self.cursors.get(key, seq) for key, seq in frame["last_seqs"].items()}
            self.socket = socket
            for unanswered in tuple(self.unacknowledged):
                await self.push(unanswered)
        elif kind == "ack":
            self.unacknowledged.pop(client_id or "", None)
        elif kind == "error" and client_id in self.unacknowledged:
            if frame["retryable"]:
                delay_ms = frame["details"].get("retry_after_ms", 1000)
                retry = asyncio.create_task(self.push(client_id, delay_ms))
                self.retries.add(retry)
                retry.add_done_callback(self.retries.discard)
            else:
                refused = self.unacknowledged.pop(client_id)
                print(f"not sent, {frame['code']}: {refused['body']}", file=sys.stderr, flush=True)
        elif kind == "error" and self.socket is None:  # the resume was refused: once more, on another connection
            await socket.close()
        self.moved.set()

    async def stay_connected(self) -> None:
        """Connect, resume and listen, again and again."""
        wait = 1.0
        while True:
            pause, wait = random.uniform(0, wait), min(2 * wait, 30.0)
            try:
                if self.access is None:
                    await asyncio.to_thread(self.authenticate)
                headers = {"Authorization": f"Bearer {self.access}"}
                async with connect(self.site.replace("http", "ws", 1) + "/ws", additional_headers=headers) as socket:
                    await socket.send(json.dumps({"type": "resume", "cursors": self.cursors}))
                    async for text in socket:
                        frame = json.loads(text)
                        await self.handle(frame, socket)
                        if frame["type"] == "drain":
                            pause = frame["reconnect_after_ms"] / 1000
                        elif frame["type"] == "resumed":
                            pause, wait = random.uniform(0, 1), 1.0
                if socket.close_code == 4401:
                    self.access = None  # its time is over
            except urllib.error.HTTPError as error:
                if error.code == 401:
                    raise PermissionError("Wrong user name or password.") from None
            except (OSError, InvalidHandshake, ConnectionClosed):
                pass  # the network, or the site: again, later
            self.socket = None
            await asyncio.sleep(pause)


async def say_lines(client: Client, conversation_id: int) -> None:
    """Send the lines of standard input; return when all is acknowledged."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        await client.send(conversation_id, line.decode().rstrip("\n"))
    while client.unacknowledged:
        client.moved.clear()
        await client.moved.wait()


async def main(site: str, username: str, conversation_id: str) -> None:
    """Talk until there is nothing more to say."""
    client = Client(site, username, os.environ["PASSWORD"])
    tasks = {asyncio.create_task(client.stay_connected()), asyncio.create_task(say_lines(client, int(conversation_id)))}
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    for task in done:
        task.result()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:4]))
    except PermissionError as error:
        sys.exit(str(error))
