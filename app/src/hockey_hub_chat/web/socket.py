"""The WebSocket door: ``/ws``, exactly as docs/protocol.md says. Rules of chat are the services'; this reads and answers frames.

One greenlet per socket reads (the request's own) and one writes (the connection's). Sends are handed to the writer without
waiting, a bounded number at a time; what has to wait for the database besides (a resume, read markers) runs beside the
reader, so a ping is answered and a heartbeat heard whatever the database does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID

import gevent
import orjson
import pydantic
import simple_websocket
import structlog
from apiflask import APIBlueprint
from flask import Flask, current_app, request
from flask_sock import Sock
from gevent.lock import BoundedSemaphore

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
from hockey_hub_chat.realtime.wire import encode, ping_frame, pong_frame
from hockey_hub_chat.services import messages
from hockey_hub_chat.services.auth import Principal, authenticate
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage.messages import StoredMessage
from hockey_hub_chat.web import security
from hockey_hub_chat.web.transport import ClosedError, WebSocketTransport, check_handshake

log = structlog.get_logger(__name__)

#: Sends of one socket that wait for their commit; past that its next frame is not read yet.
MAX_IN_FLIGHT = 64
#: Conversations whose read marker one socket may have on its way to the database.
MAX_PENDING_READS = 100
#: Refused frames within the time that end a connection.
MAX_REFUSED = 10
REFUSED_SECONDS = 10.0
#: Sockets of one person on one worker.
MAX_SOCKETS_PER_USER = 50
#: Wrong fields named in one answer.
MAX_NAMED_FIELDS = 20


def register(app: Flask) -> None:
    """Open the door."""
    app.config["SOCK_SERVER_OPTIONS"] = {"thread_class": _NoReader}
    blueprint = APIBlueprint("socket", __name__, enable_openapi=False)  # described by /api/frames.schema.json
    blueprint.before_request(_admit)
    Sock().route("/ws", bp=blueprint)(_serve)
    app.register_blueprint(blueprint)


class _NoReader:
    """Stands where flask-sock would start a reader thread for each socket: the request's own greenlet reads."""

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
    check_handshake(request.environ)
    security.check_origin(current_app.extensions["chat"], request)
    # simple-websocket would agree to compression: a few bytes that inflate to megabytes, and a frame for each reader
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)


def _serve(ws: simple_websocket.Server) -> None:
    """Serve one socket, accepted by flask-sock, to its end. Only its transport is used: see ``web.transport``."""
    ctx: AppContext = current_app.extensions["chat"]
    token = security.access_token(request)
    ws.connected = False  # adopted: nobody else writes to it, nor closes it
    transport = WebSocketTransport(
        ws.sock,
        max_message_bytes=events.MAX_FRAME_BYTES,
        heartbeat_seconds=ctx.settings.heartbeat_seconds,
        ping=ping_frame,
        pong=pong_frame,
    )
    connection = Connection(transport)
    try:
        _converse(ctx, token, transport, connection)
    except ClosedError as closed:
        if closed.code is None:
            connection.lost()
        else:
            connection.close(closed.code, closed.reason)
    except Exception:
        log.exception("socket_failed")
        connection.close(events.CLOSE_INTERNAL, "our mistake")
    finally:
        # bounded: a connection that closes cuts its transport after its own timeout
        connection.close_sent.wait()
        transport.linger()
        connection.join()


def _converse(ctx: AppContext, token: str | None, transport: WebSocketTransport, connection: Connection) -> None:
    """Log in and serve until the socket closes, by raising ClosedError."""
    if ctx.hub.draining:
        connection.post(encode(events.Drain(reconnect_after_ms=0)))
        raise ClosedError(events.CLOSE_RESTART, "restarting")
    try:
        principal = authenticate(ctx, token)
    except (AuthenticationError, UnavailableError) as error:
        connection.post(_error_frame(error))
        known = isinstance(error, AuthenticationError)
        raise ClosedError(events.CLOSE_NOT_AUTHENTICATED if known else events.CLOSE_TRY_LATER, error.code) from error
    if (
        ctx.hub.size >= ctx.settings.max_connections_per_worker
        or ctx.hub.sockets_of(principal.user_id) >= MAX_SOCKETS_PER_USER
    ):
        raise ClosedError(events.CLOSE_TRY_LATER, "too many connections")
    with structlog.contextvars.bound_contextvars(user_id=principal.user_id):
        _Talk(ctx, principal, transport, connection).run()


class _Talk:
    """The conversation with one logged-in socket."""

    def __init__(
        self, ctx: AppContext, principal: Principal, transport: WebSocketTransport, connection: Connection
    ) -> None:
        self._ctx = ctx
        self._principal = principal
        self._transport = transport
        self._connection = connection
        self._subscription = ctx.hub.attach(connection, user_id=principal.user_id, session_id=principal.session_id)
        self._in_flight = BoundedSemaphore(MAX_IN_FLIGHT)
        self._refused: deque[float] = deque(maxlen=MAX_REFUSED)
        self._reads: dict[int, int] = {}
        self._reading = False
        self._resumed = False
        self._handlers: dict[type[pydantic.BaseModel], Callable[[Any], None]] = {
            events.SendFrame: self._on_send,
            events.ResumeFrame: self._on_resume,
            events.ReadFrame: self._on_read,
            events.TypingFrame: self._on_typing,
            events.PingFrame: self._on_ping,
        }

    def run(self) -> NoReturn:
        """Read frames until ClosedError."""
        try:
            self._post(
                events.Hello(
                    user_id=self._principal.user_id,
                    server_time=self._ctx.clock(),
                    heartbeat_seconds=self._ctx.settings.heartbeat_seconds,
                )
            )
            while True:
                data = self._transport.receive(self._connection)
                if not self._connection.closing:  # else only the peer's close frame matters any more
                    self._take(data)
        finally:
            self._subscription.detach()

    def _take(self, data: bytes) -> None:
        """Handle one message; an error of the frame is answered, and counted when the frame itself was wrong."""
        frame: Any = None
        try:
            frame = parse_frame(data)
            self._handlers[type(frame)](frame)
        except ChatError as error:
            client_id = frame.client_id if isinstance(frame, events.SendFrame) else None
            if frame is None and isinstance(error, ValidationError):
                client_id = _client_id_of(data)
            self._connection.post(_error_frame(error, client_id))
            if isinstance(error, BadRequestError):
                self._count_refused()

    def _count_refused(self) -> None:
        now = time.monotonic()
        self._refused.append(now)
        if len(self._refused) == MAX_REFUSED and now - self._refused[0] <= REFUSED_SECONDS:
            raise ClosedError(events.CLOSE_TOO_MANY_ERRORS, "too many refused frames")

    def _post(self, frame: pydantic.BaseModel) -> None:
        self._connection.post(encode(frame))

    # --- frames ------------------------------------------------------------------------------------------------------

    def _on_send(self, frame: events.SendFrame) -> None:
        self._in_flight.acquire()

        def answer(result: StoredMessage | ChatError) -> None:
            self._in_flight.release()
            if isinstance(result, ChatError):
                self._connection.post(_error_frame(result, frame.client_id))
            else:
                self._post(
                    events.Ack(
                        client_id=frame.client_id,
                        conversation_id=result.conversation_id,
                        seq=result.seq,
                        created_at=result.created_at,
                    )
                )

        try:
            messages.send_nowait(self._ctx, self._principal, frame.conversation_id, frame.client_id, frame.body, answer)
        except BaseException:
            self._in_flight.release()  # answer will not be called
            raise

    def _on_resume(self, frame: events.ResumeFrame) -> None:
        if self._resumed:
            raise ValidationError(
                "This connection has resumed already.", {"fields": {"type": "resume comes once in a connection"}}
            )
        self._resumed = True
        cursors = {int(conversation_id): seq for conversation_id, seq in frame.cursors.items()}

        def resume() -> None:
            try:
                self._subscription.resume(cursors)
            except UnavailableError:
                self._resumed = False  # the client may ask again
                raise

        self._beside(resume)

    def _on_read(self, frame: events.ReadFrame) -> None:
        if frame.conversation_id not in self._reads and len(self._reads) >= MAX_PENDING_READS:
            raise RateLimitedError("Too many read markers at once; wait a moment.", {"retry_after_ms": 1000})
        self._reads[frame.conversation_id] = max(frame.seq, self._reads.get(frame.conversation_id, 0))
        if not self._reading:
            self._reading = True
            self._beside(self._write_reads)

    def _write_reads(self) -> None:
        """Write read markers, the newest of each conversation, until none is waiting."""
        try:
            while self._reads and not self._connection.closing:
                conversation_id = next(iter(self._reads))
                seq = self._reads.pop(conversation_id)
                try:
                    messages.mark_read(self._ctx, self._principal, conversation_id, seq)
                except ChatError as error:
                    self._connection.post(_error_frame(error))
        finally:
            self._reading = False

    def _on_typing(self, frame: events.TypingFrame) -> None:
        self._subscription.typing(frame.conversation_id)

    def _on_ping(self, frame: events.PingFrame) -> None:
        self._post(events.Pong(nonce=frame.nonce))

    def _beside(self, work: Callable[[], None]) -> None:
        """Run what may wait for the database in a greenlet of its own; its errors are answered like those of a frame."""

        def run() -> None:
            try:
                work()
            except ChatError as error:
                self._connection.post(_error_frame(error))
            except Exception:
                log.exception("socket_failed", user_id=self._principal.user_id)
                self._connection.close(events.CLOSE_INTERNAL, "our mistake")

        gevent.spawn(run)


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
