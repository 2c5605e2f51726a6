"""Password hashing."""

from __future__ import annotations

import gevent

from hockey_hub_chat import passwords


def test_right_and_wrong() -> None:
    made = passwords.hash_password("correct horse")
    assert made.startswith("$argon2id$")
    assert passwords.verify_password(made, "correct horse")
    assert not passwords.verify_password(made, "correct horse ")
    assert not passwords.verify_password(None, "correct horse")
    assert not passwords.verify_password(None, "nobody has this password")
    assert not passwords.verify_password("not a hash", "x")


def test_other_greenlets_go_on_meanwhile() -> None:
    turns = 0

    def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.001)

    counter = gevent.spawn(count)
    passwords.hash_password("something")
    counter.kill()
    assert turns > 5
