"""The HTTP API in process, on each database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from harness.people import PASSWORD, cheap_hash
from hockey_hub_chat import compose
from hockey_hub_chat.config import Settings
from hockey_hub_chat.storage import users
from hockey_hub_chat.web import app as web_app


class Browser(FlaskClient):
    """A test client whose answers are not typed: their JSON is what the tests look at."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request."""
        return super().open(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """GET."""
        return super().get(*args, **kwargs)

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """POST."""
        return super().post(*args, **kwargs)

    def put(self, *args: Any, **kwargs: Any) -> Any:
        """PUT."""
        return super().put(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """DELETE."""
        return super().delete(*args, **kwargs)


class Site:
    """One application and the people on it."""

    def __init__(self, app: APIFlask) -> None:
        self.app = app
        self.ctx: compose.AppContext = app.extensions["chat"]

    def add(self, name: str, **kind: bool) -> int:
        """Make somebody."""
        with self.ctx.engine.begin() as conn:
            return users.add(conn, username=name, display_name=name.title(), password_hash=cheap_hash(), **kind)

    def client(self, name: str | None = None) -> Browser:
        """Return a browser, with ``name`` logged in."""
        client = Browser(self.app, self.app.response_class, use_cookies=True)
        if name is not None:
            answer = client.post("/api/auth/login", json={"username": name, "password": PASSWORD})
            assert answer.status_code == 200, answer.data
        return client


@pytest.fixture
def make_site(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    """Make an application on the database of the test: ``make_site(rate_limit_max_requests=3)``."""
    monkeypatch.setattr(compose, "make_engine", lambda _settings: engine)
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        chosen = {"rate_limit_max_requests": 100_000, "login_rate_limit": 100_000, "log_level": "error", **settings}
        site = Site(web_app.create_app(Settings(data_dir=tmp_path / "site", database_url="", **chosen)))
        compose.start(site.ctx)
        made.append(site)
        return site

    yield make
    for site in made:
        site.ctx.writer.stop(1)
        site.ctx.hub.stop()
        site.ctx.bus.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """An application with default settings and ``ann``, ``bob`` and ``eve``."""
    made = make_site()
    for name in ("ann", "bob", "eve"):
        made.add(name)
    return made
