"""A real Chromium, driven by Playwright, against a real server."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from harness.chat import ChatServer, Keys
from harness.page import Window
from harness.people import Person
from harness.postgres import Postgres
from harness.process import Workshop
from harness.redis_server import RedisServer

_numbers = itertools.count(1)
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--disable-extensions"),
    *("--disable-background-timer-throttling", "--disable-renderer-backgrounding"),
    "--disable-backgrounding-occluded-windows",
]
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert found, "Chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, headless=True, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., Window]]:
    """Open a window on a device of its own: ``window(server, person, phone=True)``; all must stay quiet to the end."""
    made: list[tuple[BrowserContext, Window]] = []

    def make(server: ChatServer, person: Person, *, phone: bool = False, **options: Any) -> Window:
        context = browser.new_context(**{**(PHONE if phone else DESKTOP), "locale": "en-GB", **options})
        opened = Window(context, server, person, phone=phone)
        made.append((context, opened))
        return opened

    yield make
    try:
        for _, opened in made:
            opened.assert_quiet()
    finally:
        for context, _ in made:
            context.close()


@pytest.fixture(scope="module")
def shared_server(
    workshop: Workshop, keys: Keys, postgres: Postgres, postgres_template: str, redis_server: RedisServer
) -> Iterator[ChatServer]:
    """One site of two workers for the tests of a file."""
    made = ChatServer(workshop, keys, postgres.create_database(postgres_template), redis_server.env)
    try:
        yield made
    finally:
        made.destroy()


@pytest.fixture
def server(shared_server: ChatServer) -> Iterator[ChatServer]:
    """The site, running, whatever the test before did to it; nothing may be logged as a traceback."""
    if not shared_server.running:
        shared_server.start()
    shared_server.wait_ready()
    shared_server.wait_all_workers()
    since = len(shared_server.logs())
    yield shared_server
    assert "Traceback" not in shared_server.logs()[since:], shared_server.logs()[since:]


@pytest.fixture
def people(server: ChatServer) -> tuple[Person, Person]:
    """Alice and Bob, anew for each test."""
    number = next(_numbers)
    alice, bob = server.people.add(f"alice{number}", f"bob{number}")
    return alice, bob
