"""A real Chromium, driven by Playwright, against a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from harness.chat import ChatServer
from harness.page import Window
from harness.people import Person
from harness.redis_server import RedisServer

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


@pytest.fixture
def server(chat_server: Callable[..., ChatServer], database_url: str, redis_server: RedisServer) -> ChatServer:
    """A site of two workers."""
    made = chat_server(database_url, redis_server.env)
    made.wait_all_workers()
    return made
