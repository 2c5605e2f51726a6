"""Two people in two browsers: the page does what a messenger does, also when the site is hit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from harness.chat import ChatServer
from harness.page import Window
from harness.people import Person
from harness.process import wait_until

Open = Callable[..., Window]


Two = tuple[Person, Person]


def two_people(server: ChatServer, window: Open, people: Two, *, phone: bool = False) -> tuple[Window, Window, int]:
    """Log Alice and Bob in and open the conversation they share."""
    conversation = server.people.group(list(people), "U16 away games")
    alice, bob = (window(server, person, phone=phone).log_in() for person in people)
    for one in (alice, bob):
        one.choose(conversation)
        one.expect_online()
    return alice, bob, conversation


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_two_people_find_each_other_and_chat(server: ChatServer, window: Open, people: Two, phone: bool) -> None:
    alice, bob = (window(server, person, phone=phone).log_in() for person in people)
    bob.expect_online()
    alice.at("new-conversation").click()
    alice.at("people-search").fill(people[1].username[:-1])
    alice.page.locator(f'[data-testid="person"][data-username="{people[1].username}"]').click()
    alice.at("create-submit").click()
    alice.say("Hi Bob, ice at six?")
    alice.expect_texts(["Hi Bob, ice at six?"])
    item = bob.at("conversation-item")
    expect(item).to_contain_text("Hi Bob, ice at six?")
    expect(item).to_have_attribute("data-unread", "1")
    item.click()
    bob.expect_texts(["Hi Bob, ice at six?"])
    bob.say("I will be there 🏒")
    bob.say("https://example.org/rink and <b>not bold</b>\nsecond line")
    said = ["Hi Bob, ice at six?", "I will be there 🏒", "https://example.org/rink and <b>not bold</b>\nsecond line"]
    for one in (alice, bob):
        assert [(row.seq, row.state, row.body) for row in one.expect_settled(3)] == [
            (n, "sent", text) for n, text in enumerate(said, 1)
        ]
        assert one.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    expect(item).to_have_attribute("data-unread", "0")
    bob.page.reload()
    expect(bob.at("message-list")).to_be_visible()
    expect(bob.at("message-body")).to_have_text(said)


def test_typing_is_shown_to_the_other(server: ChatServer, window: Open, people: Two) -> None:
    alice, bob, _ = two_people(server, window, people)
    alice.at("composer-input").press_sequentially("h")
    expect(bob.at("typing")).to_contain_text(f"{people[0].username.title()} is typing")
    expect(alice.at("typing")).not_to_contain_text("typing")


def test_a_wrong_password_is_said_and_the_name_kept(server: ChatServer, window: Open, people: Two) -> None:
    alice = people[0]
    one = window(server, alice).open()
    one.at("login-username").fill(alice.username)
    one.at("login-password").fill("wrong")
    one.at("login-submit").click()
    expect(one.page.get_by_role("alert").filter(has_text="password")).to_be_visible()
    expect(one.at("login-username")).to_have_value(alice.username)
    one.at("login-password").fill(alice.password)
    one.at("login-submit").click()
    expect(one.at("conversation-list")).to_be_visible()


def test_log_out_leaves_nothing_on_the_device(server: ChatServer, window: Open, people: Two) -> None:
    alice, _, _ = two_people(server, window, people)
    alice.say("between us")
    alice.expect_settled(1)
    alice.at("composer-input").fill("a draft")
    other_tab = alice.page.context.new_page()
    other_tab.goto(f"{server.base_url}/")
    expect(other_tab.get_by_test_id("conversation-item")).to_be_visible()
    alice.at("logout").click()
    expect(alice.at("login-form")).to_be_visible()
    expect(other_tab.get_by_test_id("login-form")).to_be_visible()
    assert alice.page.context.cookies() == []
    alice.page.wait_for_function(  # the socket may have heard of the end before the request was answered
        """() => ![localStorage, sessionStorage].some((shelf) =>
              /between us|a draft/.test(JSON.stringify(Object.entries(shelf))))"""
    )
    expect(alice.at("login-form")).to_be_visible()
    alice.page.go_back()
    assert "between us" not in alice.page.content()


def test_log_out_is_thorough_when_the_socket_hears_of_it_first(server: ChatServer, window: Open, people: Two) -> None:
    alice, _, _ = two_people(server, window, people)
    alice.at("composer-input").fill("a draft")
    held: list[tuple[Route, APIResponse]] = []
    alice.page.route("**/api/auth/logout", lambda route: held.append((route, route.fetch())))
    alice.at("logout").click()
    expect(alice.at("login-form")).to_be_visible()
    ((route, answer),) = held
    route.fulfill(response=answer)
    alice.page.wait_for_function("() => !JSON.stringify(Object.entries(localStorage)).includes('a draft')")
    expect(alice.at("login-form")).to_be_visible()


def test_old_messages_come_in_while_scrolling_up_each_once(server: ChatServer, window: Open, people: Two) -> None:
    room = server.people.group(list(people))
    server.people.fill(room, people[1], 330)
    alice = window(server, people[0]).log_in()
    alice.choose(room)
    expect(alice.page.locator('[data-testid="message"][data-seq="330"]')).to_be_visible()

    def all_there() -> bool:
        alice.at("message-list").evaluate("(list) => { list.scrollTop = 0; }")
        alice.page.evaluate("() => new Promise(requestAnimationFrame)")
        return len(alice.shown()) >= 330

    wait_until(all_there, 20, "all messages are loaded")
    assert [row.seq for row in alice.shown()] == list(range(1, 331))


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_killing_the_workers_loses_and_doubles_nothing_on_screen(
    server: ChatServer, window: Open, people: Two, phone: bool
) -> None:
    alice, bob, room = two_people(server, window, people, phone=phone)
    said = 0
    for _ in range(2):
        for one in (alice, bob):
            said += 1
            one.say(f"before {said}")
        alice.outage = bob.outage = True
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        for one in (alice, bob):
            said += 2
            one.say(f"during {said - 1}")
            one.say(f"during {said}")
        for one in (alice, bob):
            one.expect_settled(said, timeout=30_000)
            one.expect_online()
        alice.outage = bob.outage = False
    screens = [[(row.seq, row.body) for row in one.shown()] for one in (alice, bob)]
    stored = [(row.seq, row.body) for row in server.people.history(room)]
    assert screens[0] == screens[1] == stored
    assert [seq for seq, _ in stored] == list(range(1, said + 1))


def test_what_was_written_while_the_server_was_down_is_kept_and_sent_once(
    server: ChatServer, window: Open, people: Two
) -> None:
    alice, bob, room = two_people(server, window, people)
    alice.say("one")
    bob.expect_texts(["one"])
    alice.outage = bob.outage = True
    server.stop()
    expect(alice.at("connection-banner")).to_be_visible()
    alice.say("two")
    alice.say("three")
    pending = alice.page.locator('[data-testid="message"][data-state="pending"]')
    expect(pending).to_have_count(2)
    alice.at("composer-input").fill("not sent yet")
    assert [row.body for row in alice.shown()] == ["one", "two", "three"]
    server.start()
    for one in (alice, bob):
        shown = one.expect_settled(3, timeout=45_000)
        assert [(row.seq, row.body) for row in shown] == [(1, "one"), (2, "two"), (3, "three")]
    expect(alice.at("composer-input")).to_have_value("not sent yet")
    expect(alice.at("connection-banner")).to_be_hidden()
    assert len(server.people.history(room)) == 3


def test_pending_messages_and_drafts_survive_closing_the_window(server: ChatServer, window: Open, people: Two) -> None:
    alice, bob, room = two_people(server, window, people)
    alice.outage = bob.outage = True
    server.stop()
    alice.say("written in a tunnel")
    alice.at("composer-input").fill("a thought")
    expect(alice.page.locator('[data-testid="message"][data-state="pending"]')).to_have_count(1)
    alice.page.goto("about:blank")
    server.start()
    alice.open()
    if not alice.at("composer-input").is_visible():
        expect(alice.at("conversation-item").or_(alice.at("composer-input")).first).to_be_visible()
        alice.choose(room)
    for one in (alice, bob):
        assert [row.body for row in one.expect_settled(1, timeout=45_000)] == ["written in a tunnel"]
    expect(alice.at("composer-input")).to_have_value("a thought")


def test_a_restart_is_hardly_seen(server: ChatServer, window: Open, people: Two) -> None:
    alice, bob, room = two_people(server, window, people)
    alice.outage = bob.outage = True
    alice.say("before")
    server.restart()
    bob.say("after")
    for one in (alice, bob):
        assert [row.body for row in one.expect_settled(2, timeout=45_000)] == ["before", "after"]
    assert [row.seq for row in server.people.history(room)] == [1, 2]


def test_every_answer_carries_its_security_headers(server: ChatServer, window: Open, people: Two) -> None:
    one = window(server, people[0])
    answer = one.page.goto(f"{server.base_url}/")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    expect(one.at("login-form")).to_be_visible()
    blocked = one.page.evaluate(
        """() => { const s = document.createElement("script"); s.textContent = "window.__ran = 1";
                   document.head.append(s); return window.__ran; }"""
    )
    assert blocked is None, "an inline script ran"
    assert "script-src" in str(one.page.evaluate("window.__violations"))
    one.page.evaluate("window.__violations = []")
    one.complaints.clear()


# --- accessibility ---------------------------------------------------------------------------------------------------

AXE = Path(__file__).resolve().parents[2] / "frontend/node_modules/axe-core/axe.min.js"


def violations(page: Page) -> list[str]:
    """Run axe-core on what is shown and return what breaks WCAG 2.2 A and AA, or its best practices."""
    assert AXE.exists(), f"axe-core is not installed: run `npm ci` in {AXE.parents[2]}"
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
             (v) => `${v.impact} ${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`)"""
    )
    return [str(line) for line in found]


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(server: ChatServer, window: Open, people: Two, phone: bool, scheme: str) -> None:
    room = server.people.group(list(people), "U16 away games")
    server.people.fill(room, people[1], 5)
    one = window(server, people[0], phone=phone, color_scheme=scheme, reduced_motion="reduce").open()
    expect(one.at("login-form")).to_be_visible()
    found = {"log-in": violations(one.page)}
    one.log_in()
    expect(one.at("conversation-item")).to_be_visible()
    found["list"] = violations(one.page)
    one.at("new-conversation").click()
    expect(one.at("person").first).to_be_visible()
    found["new conversation"] = violations(one.page)
    one.at("dialog-close").click()
    one.choose(room)
    one.say("hello")
    one.expect_settled(6)
    found["room"] = violations(one.page)
    one.at("room-members").click()
    expect(one.at("members-dialog")).to_be_visible()
    found["members"] = violations(one.page)
    assert not any(found.values()), "\n".join(f"{where}: {line}" for where, lines in found.items() for line in lines)
    if not phone:
        page_by_keyboard(one, room)


def page_by_keyboard(one: Window, room: int) -> None:
    """Close the dialog, write and send without touching a mouse."""
    one.page.keyboard.press("Escape")
    expect(one.at("members-dialog")).to_have_count(0)
    one.at("composer-input").focus()
    one.page.keyboard.type("by keyboard")
    one.page.keyboard.press("Enter")
    assert one.expect_settled(7)[-1].body == "by keyboard"
