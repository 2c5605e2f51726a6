"""The JSON of the HTTP API, typed; ``/api/openapi.json`` is made from this."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from hockey_hub_chat import passwords
from hockey_hub_chat.events import Body, Id, Seq
from hockey_hub_chat.services.conversations import MAX_MEMBERS, MAX_NAME
from hockey_hub_chat.storage.conversations import Conversation as StoredConversation
from hockey_hub_chat.storage.conversations import Member
from hockey_hub_chat.storage.messages import MAX_PAGE, StoredMessage, is_storable
from hockey_hub_chat.storage.sessions import Device
from hockey_hub_chat.storage.users import User as StoredUser


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("holds characters that cannot be stored")
    return text


Text = Annotated[str, StringConstraints(strict=True), AfterValidator(_storable)]

GroupName = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=MAX_NAME),
    AfterValidator(_storable),
]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Out(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- in --------------------------------------------------------------------------------------------------------------


class Login(_In):
    """A user name and its password."""

    username: Annotated[Text, Field(min_length=1, max_length=100)]
    password: Annotated[str, Field(strict=True, min_length=1, max_length=1024)]


class NewPassword(_In):
    """One's password as it is, and as it shall be."""

    current: Annotated[str, Field(strict=True, min_length=1, max_length=1024)]
    #: The service knows the rules; these are for the description.
    new: Annotated[
        str,
        Field(strict=True, json_schema_extra={"minLength": passwords.MIN_LENGTH, "maxLength": passwords.MAX_LENGTH}),
    ]


class NewConversation(_In):
    """A conversation to open with others; oneself is a member in any case."""

    kind: Literal["direct", "group"]
    member_ids: Annotated[list[Id], Field(max_length=MAX_MEMBERS)]
    name: GroupName | None = None


class NewMessage(_In):
    """A message; safe to send again with the same ``client_id``."""

    client_id: UUID
    body: Body


class Read(_In):
    """Everything up to ``seq`` has been read."""

    seq: Seq


class NewMember(_In):
    """Who is invited."""

    user_id: Id


class UserQuery(BaseModel):
    """Which people."""

    query: Annotated[Text, Field(max_length=100)] = ""
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class PageQuery(BaseModel):
    """Which messages; without ``after_seq`` and ``before_seq`` the newest."""

    after_seq: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    before_seq: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


# --- out -------------------------------------------------------------------------------------------------------------


class User(_Out):
    """A person."""

    id: int
    username: str
    display_name: str

    @classmethod
    def of(cls, user: StoredUser | Member) -> User:
        """Return the public part of an account."""
        return cls(id=user.id, username=user.username, display_name=user.display_name)


class Me(User):
    """The person logged in."""

    is_admin: bool

    @classmethod
    def of_account(cls, user: StoredUser) -> Me:
        """Return what the person may know of their own account."""
        return cls(id=user.id, username=user.username, display_name=user.display_name, is_admin=user.is_admin)


class LoggedIn(_Out):
    """Logged in; the tokens are in the cookies."""

    user: Me


class Session(_Out):
    """One of one's own log-ins. ``renewed_at`` is when its tokens were renewed last; null when they never were."""

    id: UUID
    user_agent: str
    created_at: datetime
    renewed_at: datetime | None
    expires_at: datetime
    current: bool

    @classmethod
    def of(cls, stored: Device, current: UUID) -> Session:
        """Return the JSON form; ``current`` is the session that asks."""
        return cls(
            id=stored.id,
            user_agent=stored.user_agent,
            created_at=stored.created_at,
            renewed_at=stored.renewed_at,
            expires_at=stored.expires_at,
            current=stored.id == current,
        )


class Sessions(_Out):
    """One's log-ins that are not over, the newest first."""

    sessions: list[Session]


class EndedSessions(_Out):
    """How many log-ins were ended."""

    ended: int


class Users(_Out):
    """People, by display name."""

    users: list[User]


class Message(_Out):
    """A stored message: the ``message`` frame without its ``type``."""

    conversation_id: int
    seq: int
    sender_id: int
    client_id: UUID
    body: str
    created_at: datetime

    @classmethod
    def of(cls, stored: StoredMessage) -> Message:
        """Return the JSON form."""
        return cls(
            conversation_id=stored.conversation_id,
            seq=stored.seq,
            sender_id=stored.sender_id,
            client_id=stored.client_id,
            body=stored.body,
            created_at=stored.created_at,
        )


class Conversation(_Out):
    """A conversation as one of its members sees it."""

    id: int
    kind: Literal["direct", "group"]
    name: str | None
    last_seq: int
    read_seq: int
    created_by: int | None
    created_at: datetime
    members: list[User]
    last_message: Message | None

    @classmethod
    def of(cls, stored: StoredConversation) -> Conversation:
        """Return the JSON form."""
        return cls(
            id=stored.id,
            kind=stored.kind,
            name=stored.name,
            last_seq=stored.last_seq,
            read_seq=stored.read_seq,
            created_by=stored.created_by,
            created_at=stored.created_at,
            members=[User.of(member) for member in stored.members],
            last_message=Message.of(stored.last_message) if stored.last_message else None,
        )


class Conversations(_Out):
    """One's conversations, in ascending id."""

    conversations: list[Conversation]


class Messages(_Out):
    """A page of history in ascending ``seq``."""

    messages: list[Message]


class ErrorBody(_Out):
    """What went wrong; ``code`` is the contract."""

    code: str
    message: str
    retryable: bool
    details: dict[str, Any]
    request_id: str
