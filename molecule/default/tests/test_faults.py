"""Any one process may be killed while two people chat: nothing acknowledged is lost, nothing arrives twice, it mends itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from people import Talk, wait_for
from site_under_test import Site

RECOVERY_SECONDS_MAXIMUM = 45


def child_of(unit: str) -> Callable[[Site], int]:
    """Return a finder of one child process of a unit's main process."""
    return lambda site: int(site.root(f"pgrep -P $(systemctl show --property=MainPID --value {unit}) | shuf -n 1"))


def main_of(unit: str) -> Callable[[Site], int]:
    """Return a finder of a unit's main process."""
    return lambda site: site.main_pid(unit)


def postmaster(site: Site) -> int:
    """Return the process that holds the database."""
    return int(site.root("head -1 /var/lib/postgresql/15/main/postmaster.pid"))


def backend(site: Site) -> int:
    """Return one process that serves the application a database connection."""
    return int(site.root("pgrep -u postgres -f 'postgres: .*chat_user chat_production' | shuf -n 1"))


VICTIMS: dict[str, Callable[[Site], int]] = {
    "postgresql-postmaster": postmaster,
    "postgresql-backend": backend,
    "redis": main_of("redis-server.service"),
    "nginx-master": main_of("nginx.service"),
    "nginx-worker": child_of("nginx.service"),
    "gunicorn-worker": child_of("hockey-hub-chat.service"),
    "gunicorn-master": main_of("hockey-hub-chat.service"),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_while_two_people_chat(
    site: Site, probe: dict[str, Any], rng: random.Random, figure: Callable[[str], None], victim: str
) -> None:
    with Talk(site, probe, rng) as talk:
        wait_for(lambda: talk.count() >= 20, 30, "the two did not get to talk")
        time.sleep(rng.uniform(0, 1))  # anywhere between two batches
        pid = VICTIMS[victim](site)
        killed = time.monotonic()
        site.root('kill -9 "$1"', str(pid))
        seconds = talk.seconds_until_both_are_heard(killed, RECOVERY_SECONDS_MAXIMUM)
        before = talk.count()
        wait_for(lambda: talk.count() >= before + 20, 30, "the two did not get to talk afterwards")
        history = talk.finish()
        talk.judge(history)
    reconnects = sum(person.record.connects - 1 for person in talk.people)
    figure(f"kill -9 {victim}: heard again after {seconds:.2f} s, {len(history)} messages, {reconnects} reconnects")
    assert site.root(f"kill -0 {pid} 2>/dev/null && echo alive || echo dead") == "dead"
    wait_for(lambda: site.ask("GET", "/ready").status == 200, 30, "the site is not ready again")
    units = "postgresql@15-main redis-server nginx hockey-hub-chat"
    wait_for(
        lambda: set(site.root(f"systemctl is-active {units}", check=False).split()) == {"active"},
        30,
        "a unit is not back",
    )
    assert site.root("systemctl --failed --no-legend --plain") == ""
