"""Alembic's scripts, shipped with the package. Expand only: the previous release runs against the schema for a while."""
