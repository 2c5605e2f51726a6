"""The schema, as SQLAlchemy Core tables; the one place that names columns. Migrations create exactly this.

Rules the rest relies on:

- ``messages`` is keyed by ``(conversation_id, seq)``. ``seq`` is ``conversations.last_seq + 1`` taken under that row's lock in the
  same transaction, so it is gapless and in commit order; nothing else ever assigns it.
- ``(sender_id, client_id)`` is unique: a retried send finds the first row.
- A membership is a row that is never deleted: ``left_at`` ends it, and a return sets it to null again.
- ``direct_key`` (``"<low>:<high>"`` user ids) makes a direct conversation unique.
- Who is in a team is its rows of ``team_members``, one for each role. A change of them is made under the team's row lock.
- Nobody is the guardian of their own guardian: a guardianship is made under the row locks of both people.
- Times are UTC with zone. Ids are 64-bit identities.
"""

from __future__ import annotations

from datetime import timezone

import sqlalchemy as sa

UTC = timezone.utc  # datetime.UTC needs Python 3.11; Ubuntu 22.04 has 3.10

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only counts INTEGER PRIMARY KEY by itself; PostgreSQL gets a 64-bit identity.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class UtcDateTime(sa.TypeDecorator[object]):
    """A zone-aware UTC time, also where the database keeps none (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value, dialect):  # type: ignore[no-untyped-def]  # SQLAlchemy's own signature is untyped
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value, dialect):  # type: ignore[no-untyped-def]
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


users = sa.Table(
    "users",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("username", sa.Text, nullable=False, unique=True),  # stored casefolded
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False),  # argon2id, PHC string
    sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column(
        "is_probe", sa.Boolean, nullable=False, server_default=sa.false()
    ),  # made by `verify`, hidden from people
    sa.Column("disabled_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
    sa.Column("birth_date", sa.Date),  # shown to the person, their guardians and their clubs' administrators alone
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("refresh_hash", sa.LargeBinary(32), nullable=False, unique=True),  # SHA-256 of the current refresh token
    sa.Column("previous_refresh_hash", sa.LargeBinary(32), unique=True),  # one rotated out: its reuse ends the session
    sa.Column("rotated_at", UtcDateTime),
    sa.Column("user_agent", sa.Text, nullable=False, server_default=""),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("direct_key", sa.Text, unique=True),
    sa.Column("last_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("created_by", sa.ForeignKey("users.id", ondelete="SET NULL")),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
    sa.CheckConstraint("kind IN ('direct', 'group')", name="kind"),
    sa.CheckConstraint("(kind = 'direct') = (direct_key IS NOT NULL)", name="direct_key"),
)

conversation_participants = sa.Table(
    "conversation_participants",
    metadata,
    sa.Column("conversation_id", sa.ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("read_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("joined_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
    sa.Column("left_at", UtcDateTime),
    sa.Index("ix_conversation_participants_user_id", "user_id", postgresql_where=sa.text("left_at IS NULL")),
)

messages = sa.Table(
    "messages",
    metadata,
    # No foreign keys: a membership is checked under the conversation's lock (docs/decisions/0010-write-path.md)
    sa.Column("conversation_id", BigId, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sender_id", BigId, nullable=False),
    sa.Column("client_id", sa.Uuid, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
    sa.Column("deleted_at", UtcDateTime),
    sa.UniqueConstraint("sender_id", "client_id"),
)

clubs = sa.Table(
    "clubs",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
)

club_roles = sa.Table(
    "club_roles",
    metadata,
    sa.Column("club_id", sa.ForeignKey("clubs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.CheckConstraint("role IN ('admin')", name="role"),
)

teams = sa.Table(
    "teams",
    metadata,
    sa.Column("id", BigId, sa.Identity(), primary_key=True),
    sa.Column("club_id", sa.ForeignKey("clubs.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("season", sa.Text, nullable=False),
    sa.Column("age_group", sa.Text),
    sa.Column("archived_at", UtcDateTime),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=sa.func.now()),
    sa.UniqueConstraint("club_id", "name", "season"),
)

team_members = sa.Table(
    "team_members",
    metadata,
    sa.Column("team_id", sa.ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    sa.Column("role", sa.Text, primary_key=True),
    sa.CheckConstraint("role IN ('player', 'guardian', 'coach', 'manager')", name="role"),
)

guardianships = sa.Table(
    "guardianships",
    metadata,
    sa.Column("guardian_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("child_id", sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    sa.CheckConstraint("guardian_id <> child_id", name="two_people"),
)
