"""The JSON of the HTTP API, typed; ``/api/openapi.json`` is made from this."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from hockey_hub_chat import passwords
from hockey_hub_chat.events import Body, Id, Seq
from hockey_hub_chat.services import teams
from hockey_hub_chat.services.conversations import MAX_MEMBERS, MAX_NAME
from hockey_hub_chat.services.teams import ClubView, TeamView
from hockey_hub_chat.storage.conversations import Conversation as StoredConversation
from hockey_hub_chat.storage.conversations import Member
from hockey_hub_chat.storage.messages import MAX_PAGE, StoredMessage, is_storable
from hockey_hub_chat.storage.sessions import Device
from hockey_hub_chat.storage.teams import MAX_PAGE as MAX_LISTED
from hockey_hub_chat.storage.teams import Club as StoredClub
from hockey_hub_chat.storage.teams import TeamMember as StoredTeamMember
from hockey_hub_chat.storage.teams import TeamRole
from hockey_hub_chat.storage.users import User as StoredUser


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("holds characters that cannot be stored")
    return text


def _whole(value: object) -> object:
    """Take 3.0 for 3, as JSON Schema does; everything else is judged as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: What ``_storable`` means, for the description: no NUL. (JSON itself has no lone surrogates.)
_NO_NUL = Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
_NOT_BLANK = Field(json_schema_extra={"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"})

Text = Annotated[str, StringConstraints(strict=True), AfterValidator(_storable), _NO_NUL]

WholeId = Annotated[Id, BeforeValidator(_whole)]
WholeSeq = Annotated[Seq, BeforeValidator(_whole)]

#: What somebody calls a thing; how long it may be, the field adds.
Name = Annotated[
    str,
    StringConstraints(strict=True, strip_whitespace=True, min_length=1),
    AfterValidator(_storable),
    _NOT_BLANK,
]
GroupName = Annotated[Name, StringConstraints(max_length=MAX_NAME)]


def _day(value: object) -> object:
    """Only ``YYYY-MM-DD``: a number would be read as seconds since 1970."""
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII)):
        raise ValueError("must be YYYY-MM-DD or null")
    return value


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
    member_ids: Annotated[list[WholeId], Field(max_length=MAX_MEMBERS)]
    name: GroupName | None = None


class NewMessage(_In):
    """A message; safe to send again with the same ``client_id``."""

    client_id: UUID
    body: Annotated[Body, _NO_NUL]


class Read(_In):
    """Everything up to ``seq`` has been read."""

    seq: WholeSeq


class NewMember(_In):
    """Who is invited."""

    user_id: WholeId


class NewClub(_In):
    """A club to open."""

    name: Annotated[Name, StringConstraints(max_length=teams.MAX_NAME)]


class NewTeam(_In):
    """What a team is called; the name is the club's only one in its season."""

    name: Annotated[Name, StringConstraints(max_length=teams.MAX_NAME)]
    season: Annotated[Name, StringConstraints(max_length=teams.MAX_SEASON)]
    age_group: Annotated[Name, StringConstraints(max_length=teams.MAX_AGE_GROUP)] | None = None


class Archived(_In):
    """Whether a team is put away."""

    archived: Annotated[bool, Field(strict=True)]


class NewRole(_In):
    """Who becomes what in a team."""

    user_id: WholeId
    role: TeamRole


class RoleQuery(BaseModel):
    """Which role is taken away."""

    role: TeamRole


class BirthDate(_In):
    """When somebody was born, ``YYYY-MM-DD``; null forgets it."""

    birth_date: Annotated[date | None, BeforeValidator(_day)]


class Guardianship(_In):
    """Who is whose guardian."""

    guardian_id: WholeId
    child_id: WholeId


class ListQuery(BaseModel):
    """Which page of clubs or teams: those after this id. One shorter than ``limit`` is the last."""

    after_id: Annotated[int, Field(ge=0, lt=2**53)] = 0
    limit: Annotated[int, Field(ge=1, le=MAX_LISTED)] = 50


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


class Club(_Out):
    """A club."""

    id: int
    name: str
    created_at: datetime

    @classmethod
    def of(cls, stored: StoredClub) -> Club:
        """Return the JSON form."""
        return cls(id=stored.id, name=stored.name, created_at=stored.created_at)


class ClubDetails(Club):
    """A club and its administrators."""

    admins: list[User]

    @classmethod
    def of_view(cls, view: ClubView) -> ClubDetails:
        """Return the JSON form."""
        return cls(**Club.of(view.club).model_dump(), admins=[User.of(admin) for admin in view.admins])


class Clubs(_Out):
    """A page of clubs in ascending id."""

    clubs: list[Club]


class TeamMember(User):
    """Someone in a team. ``birth_date`` is null when it is unknown, and for whoever may not see it."""

    birth_date: date | None

    @classmethod
    def of_member(cls, stored: StoredTeamMember) -> TeamMember:
        """Return the JSON form."""
        return cls(**User.of(stored.person).model_dump(), birth_date=stored.birth_date)


class Team(_Out):
    """A team, and what one is in it oneself."""

    id: int
    club_id: int
    name: str
    season: str
    age_group: str | None
    archived_at: datetime | None
    created_at: datetime
    my_roles: list[TeamRole]

    @classmethod
    def of(cls, view: TeamView) -> Team:
        """Return the JSON form, without the members."""
        team = view.team
        return cls(
            id=team.id,
            club_id=team.club_id,
            name=team.name,
            season=team.season,
            age_group=team.age_group,
            archived_at=team.archived_at,
            created_at=team.created_at,
            my_roles=list(view.my_roles),
        )


class TeamMembers(_Out):
    """Who is in a team, by display name; somebody with two roles is in two lists."""

    player: list[TeamMember]
    guardian: list[TeamMember]
    coach: list[TeamMember]
    manager: list[TeamMember]


class TeamDetails(Team):
    """A team and its members by role."""

    members: TeamMembers

    @classmethod
    def of_view(cls, view: TeamView) -> TeamDetails:
        """Return the JSON form."""
        by_role: dict[str, list[TeamMember]] = {role: [] for role in TeamMembers.model_fields}
        for member in view.members:
            by_role[member.role].append(TeamMember.of_member(member))
        return cls(**Team.of(view).model_dump(), members=TeamMembers(**by_role))


class Teams(_Out):
    """A page of teams in ascending id."""

    teams: list[Team]


class ErrorBody(_Out):
    """What went wrong; ``code`` is the contract."""

    code: str
    message: str
    retryable: bool
    details: dict[str, Any]
    request_id: str
