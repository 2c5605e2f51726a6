"""The first schema: people, sessions, conversations, memberships, messages."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "users",
        sa.Column("id", _ID, sa.Identity(), nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("is_admin", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("is_probe", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("disabled_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("refresh_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("previous_refresh_hash", sa.LargeBinary(32)),
        sa.Column("rotated_at", _TIME),
        sa.Column("user_agent", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id", ondelete="CASCADE"),
        sa.UniqueConstraint("refresh_hash", name="uq_sessions_refresh_hash"),
        sa.UniqueConstraint("previous_refresh_hash", name="uq_sessions_previous_refresh_hash"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "conversations",
        sa.Column("id", _ID, sa.Identity(), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("direct_key", sa.Text),
        sa.Column("last_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_by", _ID),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name="fk_conversations_created_by", ondelete="SET NULL"),
        sa.UniqueConstraint("direct_key", name="uq_conversations_direct_key"),
        sa.CheckConstraint("kind IN ('direct', 'group')", name=op.f("ck_conversations_kind")),
        sa.CheckConstraint("(kind = 'direct') = (direct_key IS NOT NULL)", name=op.f("ck_conversations_direct_key")),
    )
    op.create_table(
        "conversation_participants",
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("read_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("joined_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("left_at", _TIME),
        sa.PrimaryKeyConstraint("conversation_id", "user_id", name="pk_conversation_participants"),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name="fk_conversation_participants_conversation_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_conversation_participants_user_id", ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ix_conversation_participants_user_id",
        "conversation_participants",
        ["user_id"],
        postgresql_where=sa.text("left_at IS NULL"),
    )
    op.create_table(
        "messages",
        sa.Column("conversation_id", _ID, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("sender_id", _ID, nullable=False),
        sa.Column("client_id", sa.Uuid, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("deleted_at", _TIME),
        sa.PrimaryKeyConstraint("conversation_id", "seq", name="pk_messages"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_messages_conversation_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["sender_id"], ["users.id"], name="fk_messages_sender_id", ondelete="CASCADE"),
        sa.UniqueConstraint("sender_id", "client_id", name="uq_messages_sender_id_client_id"),
    )
