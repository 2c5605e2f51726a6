"""Clubs, their teams, who is what in a team, who is whose guardian, and birth dates.

The previous release runs on this schema unchanged: it names the columns it reads, and what it deletes from ``users`` takes the new rows
along. Nothing here reads or writes a row of a table that is in use. ``users`` is held for some milliseconds, by the strongest lock first:
taken last, it would be an upgrade of the lock that foreign keys take, and could meet a transaction that waits for the weaker one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def _to(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    """Add the column, then the tables."""
    op.add_column("users", sa.Column("birth_date", sa.Date))
    op.create_table(
        "clubs",
        sa.Column("id", _ID, sa.Identity(), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_clubs"),
    )
    op.create_table(
        "club_roles",
        sa.Column("club_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("club_id", "user_id", "role", name="pk_club_roles"),
        _to("club_roles", "club_id", "clubs"),
        _to("club_roles", "user_id", "users"),
        sa.CheckConstraint("role IN ('admin')", name=op.f("ck_club_roles_role")),
    )
    op.create_index("ix_club_roles_user_id", "club_roles", ["user_id"])
    op.create_table(
        "teams",
        sa.Column("id", _ID, sa.Identity(), nullable=False),
        sa.Column("club_id", _ID, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("season", sa.Text, nullable=False),
        sa.Column("age_group", sa.Text),
        sa.Column("archived_at", _TIME),
        sa.Column("created_at", _TIME, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="pk_teams"),
        _to("teams", "club_id", "clubs"),
        sa.UniqueConstraint("club_id", "name", "season", name="uq_teams_club_id_name_season"),
    )
    op.create_table(
        "team_members",
        sa.Column("team_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("team_id", "user_id", "role", name="pk_team_members"),
        _to("team_members", "team_id", "teams"),
        _to("team_members", "user_id", "users"),
        sa.CheckConstraint("role IN ('player', 'guardian', 'coach', 'manager')", name=op.f("ck_team_members_role")),
    )
    op.create_index("ix_team_members_user_id", "team_members", ["user_id"])
    op.create_table(
        "guardianships",
        sa.Column("guardian_id", _ID, nullable=False),
        sa.Column("child_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("guardian_id", "child_id", name="pk_guardianships"),
        _to("guardianships", "guardian_id", "users"),
        _to("guardianships", "child_id", "users"),
        sa.CheckConstraint("guardian_id <> child_id", name=op.f("ck_guardianships_two_people")),
    )
    op.create_index("ix_guardianships_child_id", "guardianships", ["child_id"])
