"""The WebSocket door: ``/ws``, exactly as docs/protocol.md says. Rules of chat are the services'; this reads and answers frames.

flask-sock opens the door here for whatever is unusual, ``handshake`` for the common case; behind either, ``Door.open`` logs in and hands
the socket to the reactor, which keeps no greenlet for it. So nothing a frame leads to may wait: sends are handed to the writer, a bounded
number at a time, and what has to wait for the database besides (a resume, read markers) runs in a greenlet of its own.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import gevent
import orjson
import pydantic
import simple_websocket
import structlog
from apiflask import APIBlueprint
from flask import Flask, current_app, request
from flask_sock import Sock

from hockey_hub_chat import events
from hockey_hub_chat.errors import (
    AuthenticationError,
    BadRequestError,
    ChatError,
    RateLimitedError,
    UnavailableError,
    UnknownFrameError,
    ValidationError,
)
from hockey_hub_chat.realtime.connection import Connection
from hockey_hub_chat.realtime.wire import encode, text_frame
from hockey_hub_chat.services import auth, messages
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage.messages import StoredMessage
from hockey_hub_chat.web import handshake, security

log = structlog.get_logger(__name__)

#: Sends of one socket that wait for their commit; past that nothing more is read from it.
MAX_IN_FLIGHT = 64
#: Conversations whose read marker one socket may have on its way to the database.
MAX_PENDING_READS = 100
#: Refused frames within the time that end a connection.
MAX_REFUSED = 10
REFUSED_SECONDS = 10.0
#: Sockets of one person on one worker.
MAX_SOCKETS_PER_USER = 50
#: Sockets past the limit that one worker answers at a time, those that may not log in and still close included; past that they are cut.
MAX_TURNED_AWAY = 500
#: Wrong fields named in one answer.
MAX_NAMED_FIELDS = 20


def register(app: Flask) -> None:
    """Open the door."""
    app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": _NoReader}
    blueprint = APIBlueprint("socket", __name__, enable_openapi=False)  # described by /api/frames.schema.json
    blueprint.before_request(_admit)
    Sock().route("/ws", bp=blueprint)(_serve)
    app.register_blueprint(blueprint)
    app.extensions["chat_door"] = Door(app.extensions["chat"])


class _NoReader:
    """Stands where flask-sock would start a reader thread for each socket: the reactor reads."""

    name = "(none)"

    def __init__(self, target: Callable[[], None]) -> None:
        """Never runs ``target``."""

    def start(self) -> None:
        """Do nothing."""


def _admit() -> None:
    """Refuse over HTTP, before flask-sock accepts, what is no handshake or comes from another site.

    Raises:
        BadRequestError: not a WebSocket handshake.
        OriginError: another site's page.
    """
    handshake.check(request.environ)
    security.check_origin(current_app.extensions["chat"], request)
    # simple-websocket would agree to compression: a few bytes that inflate to megabytes, and a frame for each reader
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


def _serve(ws: simple_websocket.Server) -> None:
    """Adopt one socket that flask-sock accepted; only its descriptor is used (a duplicate: gunicorn closes its own)."""
    ws.connected = False  # nobody else writes to it, nor closes it
    door: Door = current_app.extensions["chat_door"]
    door.open(ws.sock.detach(), security.access_token(request))


class Door:
    """Logs sockets in, and lets them talk. One for each worker."""

    def __init__(self, ctx: AppContext) -> None:
        self.ctx = ctx

    def open(self, fd: int, token: str | None, *, greeting: bytes = b"") -> None:
        """Take over an accepted socket; waits for the log-in, not for the end.

        Args:
            fd: a connected, non-blocking stream socket; ours from here on.
            token: the access token that came with the handshake.
            greeting: bytes that have to leave first (the answer to the handshake).
        """
        ctx = self.ctx
        if ctx.reactor.size >= ctx.settings.max_connections_per_worker + MAX_TURNED_AWAY:
            os.close(fd)  # to answer each would let them hold descriptors without a log-in
            return
        connection = ctx.reactor.adopt(fd, max_message_bytes=events.MAX_FRAME_BYTES)
        if greeting:
            connection.post(greeting)
        if ctx.hub.draining:
            connection.post(encode(events.Drain(reconnect_after_ms=0)))
            connection.close(events.CLOSE_RESTART, "restarting")
            return
        try:
            claims = auth.read_token(ctx, token)
            if (
                ctx.hub.size >= ctx.settings.max_connections_per_worker
                or ctx.hub.sockets_of(claims.user_id) >= MAX_SOCKETS_PER_USER
            ):
                connection.close(events.CLOSE_TRY_LATER, "too many connections")
                return
            # Attached before the session is looked at: should it end in between, the socket hears of it.
            talk = Talk(ctx, connection, claims.user_id, claims.session_id)
            talk.welcome(auth.confirm(ctx, claims))
        except (AuthenticationError, UnavailableError) as error:
            connection.post(_error_frame(error))
            known = isinstance(error, AuthenticationError)
            connection.close(events.CLOSE_NOT_AUTHENTICATED if known else events.CLOSE_TRY_LATER, error.code)
        except Exception:
            log.exception("socket_failed")
            connection.close(events.CLOSE_INTERNAL, "our mistake")


class Talk:
    """The conversation with one socket; the owner of its connection."""

    __slots__ = (
        "_connection",
        "_ctx",
        "_in_flight",
        "_principal",
        "_reading",
        "_reads",
        "_refused",
        "_resumed",
        "_subscription",
    )

    def __init__(self, ctx: AppContext, connection: Connection, user_id: int, session_id: UUID) -> None:
        self._ctx = ctx
        self._connection = connection
        self._principal: Principal | None = None
        self._in_flight = 0
        self._refused: deque[float] | None = None
        self._reads: dict[int, int] | None = None
        self._reading = False
        self._resumed = False
        self._subscription = ctx.hub.attach(connection, user_id=user_id, session_id=session_id)
        connection.owner = self

    def welcome(self, principal: Principal) -> None:
        """Greet a socket whose session counts, and listen to it."""
        self._principal = principal
        hello = events.hello_json(principal.user_id, self._ctx.clock(), self._ctx.settings.heartbeat_seconds)
        self._connection.post(text_frame(hello))
        self._connection.listen()

    # --- called by the connection ----------------------------------------------------------------------------------------

    def closed(self, code: int) -> None:
        """See ``realtime.connection.Owner``."""
        self._subscription.detach()

    def received(self, message: bytes) -> None:
        """Handle one message; an error of the frame is answered, and counted when the frame itself was wrong."""
        frame: Any = None
        try:
            frame = parse_frame(message)
            _HANDLERS[type(frame)](self, frame)
        except ChatError as error:
            client_id = frame.client_id if isinstance(frame, events.SendFrame) else None
            if frame is None and isinstance(error, ValidationError):
                client_id = _client_id_of(message)
            self._connection.post(_error_frame(error, client_id))
            if isinstance(error, BadRequestError):
                self._count_refused()
        except Exception:
            log.exception("socket_failed", user_id=self._subscription.user_id)
            self._connection.close(events.CLOSE_INTERNAL, "our mistake")

    def _count_refused(self) -> None:
        now = time.monotonic()
        if self._refused is None:
            self._refused = deque(maxlen=MAX_REFUSED)
        self._refused.append(now)
        if len(self._refused) == MAX_REFUSED and now - self._refused[0] <= REFUSED_SECONDS:
            self._connection.close(events.CLOSE_TOO_MANY_ERRORS, "too many refused frames")

    @property
    def _who(self) -> Principal:
        if self._principal is None:
            raise RuntimeError("nobody is listened to before the log-in")
        return self._principal

    # --- frames ------------------------------------------------------------------------------------------------------

    def _on_send(self, frame: events.SendFrame) -> None:
        self._in_flight += 1
        try:
            messages.send_nowait(
                self._ctx,
                self._who,
                frame.conversation_id,
                frame.client_id,
                frame.body,
                _Answer(self, frame.client_id),
            )
        except BaseException:
            self._in_flight -= 1  # the answer will not be called
            raise
        if self._in_flight >= MAX_IN_FLIGHT:
            self._connection.pause()

    def answered(self, client_id: UUID, result: StoredMessage | ChatError) -> None:
        """Tell the sender what became of a message."""
        self._in_flight -= 1
        if isinstance(result, ChatError):
            self._connection.post(_error_frame(result, client_id))
        else:
            payload = events.ack_json(client_id, result.conversation_id, result.seq, result.created_at)
            self._connection.post(text_frame(payload))
        if self._in_flight == MAX_IN_FLIGHT // 2:
            self._connection.unpause()

    def _on_resume(self, frame: events.ResumeFrame) -> None:
        if self._resumed:
            raise ValidationError(
                "This connection has resumed already.", {"fields": {"type": "resume comes once in a connection"}}
            )
        self._resumed = True
        cursors = {int(conversation_id): seq for conversation_id, seq in frame.cursors.items()}
        gevent.spawn(self._beside, self._resume, cursors)

    def _resume(self, cursors: Mapping[int, int]) -> None:
        try:
            self._subscription.resume(cursors)
        except UnavailableError:
            self._resumed = False  # the client may ask again
            raise

    def _on_read(self, frame: events.ReadFrame) -> None:
        reads = self._reads = self._reads if self._reads is not None else {}
        if frame.conversation_id not in reads and len(reads) >= MAX_PENDING_READS:
            raise RateLimitedError("Too many read markers at once; wait a moment.", {"retry_after_ms": 1000})
        reads[frame.conversation_id] = max(frame.seq, reads.get(frame.conversation_id, 0))
        if not self._reading:
            self._reading = True
            gevent.spawn(self._beside, self._write_reads)

    def _write_reads(self) -> None:
        """Write read markers, the newest of each conversation, until none is waiting."""
        try:
            while self._reads and not self._connection.closing:
                conversation_id = next(iter(self._reads))
                seq = self._reads.pop(conversation_id)
                try:
                    messages.mark_read(self._ctx, self._who, conversation_id, seq)
                except ChatError as error:
                    self._connection.post(_error_frame(error))
            self._reads = None
        finally:
            self._reading = False

    def _on_typing(self, frame: events.TypingFrame) -> None:
        self._subscription.typing(frame.conversation_id)

    def _on_ping(self, frame: events.PingFrame) -> None:
        self._connection.post(encode(events.Pong(nonce=frame.nonce)))

    def _beside(self, work: Callable[..., None], *args: Any) -> None:
        """Run what may wait for the database; its errors are answered like those of a frame."""
        try:
            work(*args)
        except ChatError as error:
            self._connection.post(_error_frame(error))
        except Exception:
            log.exception("socket_failed", user_id=self._subscription.user_id)
            self._connection.close(events.CLOSE_INTERNAL, "our mistake")


_HANDLERS: dict[type[pydantic.BaseModel], Callable[[Talk, Any], None]] = {
    events.SendFrame: Talk._on_send,
    events.ResumeFrame: Talk._on_resume,
    events.ReadFrame: Talk._on_read,
    events.TypingFrame: Talk._on_typing,
    events.PingFrame: Talk._on_ping,
}


class _Answer:
    """Where the writer brings the result of one send."""

    __slots__ = ("_client_id", "_talk")

    def __init__(self, talk: Talk, client_id: UUID) -> None:
        self._talk = talk
        self._client_id = client_id

    def __call__(self, result: StoredMessage | ChatError) -> None:
        self._talk.answered(self._client_id, result)


def parse_frame(data: bytes) -> Any:
    """Return the typed frame in one text message.

    Raises:
        BadRequestError: it is not a JSON object with a type.
        UnknownFrameError: a type this version does not have.
        ValidationError: a field is wrong; ``details["fields"]`` maps each to what is wrong with it.
    """
    try:
        return events.client_frame_adapter.validate_json(data)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    kind = problems[0]["type"]
    if kind == "union_tag_invalid":
        raise UnknownFrameError("There is no such frame type.")
    if not problems[0]["loc"]:
        raise BadRequestError("A frame is one JSON object with a type.")
    fields = {
        ".".join(map(str, problem["loc"][1:]))[:200] or "type": problem["msg"]
        for problem in problems[:MAX_NAMED_FIELDS]
    }
    raise ValidationError("A field is missing or wrong.", {"fields": fields})


def _client_id_of(data: bytes) -> UUID | None:
    """Return the client_id of a refused send, where it is one, so that the client knows what was refused."""
    try:
        return UUID(orjson.loads(data)["client_id"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _error_frame(error: ChatError, client_id: UUID | None = None) -> bytes:
    return encode(
        events.ErrorFrame(
            code=error.code,
            message=error.message,
            retryable=error.retryable,
            details=error.details,
            client_id=client_id,
        )
    )
