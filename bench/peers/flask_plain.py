"""The chat as Flask's tutorials write it: flask-sock on a gevent worker, and a loop that sends to everybody in the room.

It stores nothing and knows nobody.
"""

from __future__ import annotations

from collections import defaultdict

from flask import Flask, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed, Server

app = Flask(__name__)
sock = Sock(app)
rooms: defaultdict[str, set[Server]] = defaultdict(set)


@app.get("/")
def index() -> str:
    """Say that it serves."""
    return "ready\n"


@sock.route("/ws")  # type: ignore[untyped-decorator]  # published without types
def serve(socket: Server) -> None:
    """Hand every message of a socket to its room."""
    members = rooms[request.args["room"]]
    members.add(socket)
    socket.send("joined")
    try:
        while True:
            text = socket.receive()
            for member in tuple(members):
                try:
                    member.send(text)
                except ConnectionClosed:
                    members.discard(member)
    finally:
        members.discard(socket)
