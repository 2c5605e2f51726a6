"""One person in one browser window: what they do and what they see, by the page's test ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

from harness.chat import ChatServer
from harness.people import Person

#: What Chromium itself writes for an answer the page expects and handles: not logged in yet.
EXPECTED = re.compile(r"Failed to load resource: the server responded with a status of 401")
#: And while a server is meant to be away.
OUTAGE = re.compile(r"Failed to load resource|WebSocket connection to .* failed|ERR_CONNECTION_REFUSED")

_REPORT_VIOLATIONS = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""


@dataclass(frozen=True)
class Shown:
    """A message on the screen."""

    seq: int | None
    state: str
    body: str


class Window:
    """A browser window with the chat page.

    Args:
        context: a context of its own: cookies and storage of one device.
        phone: whether the list and the room share the screen one after the other.
    """

    def __init__(self, context: BrowserContext, server: ChatServer, person: Person, *, phone: bool = False) -> None:
        self.server = server
        self.person = person
        self.phone = phone
        self.complaints: list[str] = []
        self.outage = False
        context.add_init_script(_REPORT_VIOLATIONS)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("requestfailed", self._request_failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        text = f"{message.text} ({message.location.get('url', '')})"
        if EXPECTED.search(text) and "/api/" in text:
            return
        if self.outage and OUTAGE.search(text):
            return
        self.complaints.append(f"console: {text}")

    def _request_failed(self, request: Any) -> None:
        if not self.outage and request.failure != "net::ERR_ABORTED":  # the page left while it loaded
            self.complaints.append(f"request: {request.url}: {request.failure}")

    def assert_quiet(self) -> None:
        """Assert that there was no console error, no uncaught error and no violation of the content security policy."""
        violations = self.page.evaluate("window.__violations")
        assert not violations, f"content security policy: {violations}"
        assert not self.complaints, "\n".join(self.complaints)

    def at(self, testid: str) -> Locator:
        """Return the element with a test id."""
        return self.page.get_by_test_id(testid)

    # --- what a person does ------------------------------------------------------------------------------------------

    def open(self) -> Window:
        """Open the page."""
        self.page.goto(f"{self.server.base_url}/")
        return self

    def log_in(self) -> Window:
        """Open the page and log in through the form."""
        self.open()
        self.at("login-username").fill(self.person.username)
        self.at("login-password").fill(self.person.password)
        self.at("login-submit").click()
        expect(self.at("conversation-list")).to_be_visible()
        return self

    def choose(self, conversation_id: int) -> None:
        """Open a conversation from the list."""
        self.page.locator(f'[data-testid="conversation-item"][data-conversation-id="{conversation_id}"]').click()
        expect(self.at("composer-input")).to_be_visible()

    def say(self, text: str) -> None:
        """Write a message and send it."""
        self.at("composer-input").fill(text)
        self.at("composer-send").click()

    # --- what a person sees ------------------------------------------------------------------------------------------

    def shown(self) -> list[Shown]:
        """Return the messages on the screen, top to bottom."""
        rows: list[list[str]] = self.page.evaluate(
            """() => [...document.querySelectorAll('[data-testid="message"]')].map((row) => [
              row.dataset.seq, row.dataset.state, row.querySelector('[data-testid="message-body"]').textContent])"""
        )
        return [Shown(int(seq) if seq else None, state, body) for seq, state, body in rows]

    def expect_texts(self, texts: list[str], timeout: float = 20_000) -> None:
        """Wait until exactly these messages are on the screen, in this order."""
        expect(self.at("message-body")).to_have_text(texts, timeout=timeout)

    def expect_settled(self, count: int, timeout: float = 20_000) -> list[Shown]:
        """Wait until ``count`` messages are on the screen and all committed; returns them."""
        committed = self.page.locator('[data-testid="message"][data-state="sent"][data-seq]:not([data-seq=""])')
        expect(committed).to_have_count(count, timeout=timeout)
        expect(self.at("message")).to_have_count(count, timeout=timeout)
        return self.shown()

    def expect_online(self, timeout: float = 40_000) -> None:
        """Wait until the page says nothing about its connection."""
        expect(self.at("connection-banner")).to_have_attribute("data-state", "online", timeout=timeout)
