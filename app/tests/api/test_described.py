"""What ``/api/openapi.json`` says, held against the application by schemathesis: no answer it does not describe, and no 5xx.

Every operation gets generated requests, good and bad, of somebody logged in and of nobody.
"""

from __future__ import annotations

import os
import random
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.conftest import Site
from harness.people import PASSWORD

#: Operations with a rule that no schema can tell, so that well-formed requests may be refused with 422: that a direct
#: conversation is with exactly one other.
RULED = {"POST /api/conversations"}
#: Operations after which ann has to log in again.
ENDS_SESSIONS = {
    "POST /api/auth/logout",
    "DELETE /api/sessions",
    "DELETE /api/sessions/{session_id}",
    "PUT /api/me/password",
}
EXAMPLES = int(os.environ.get("HHC_TEST_API_EXAMPLES") or 15)
#: The same each time, so that a change is judged by what it changed; ``HHC_TEST_API_SEED=new`` looks elsewhere.
_given = os.environ.get("HHC_TEST_API_SEED", "1")
SEED = random.SystemRandom().getrandbits(32) if _given == "new" else int(_given)


class LogIn:
    """Sends ann's token along."""

    token = ""

    def get(self, case: Any, ctx: Any) -> str:
        """Return it."""
        return self.token

    def set(self, case: Any, data: str, ctx: Any) -> None:
        """Send it."""
        case.headers["Authorization"] = f"Bearer {data}"


def fresh_token(site: Site) -> str:
    """Log ann in."""
    answer = site.client().post("/api/auth/login", json={"username": "ann", "password": PASSWORD})
    cookie = next(c for c in answer.headers.getlist("Set-Cookie") if c.startswith("hhc_access="))
    return str(cookie.split(";")[0].split("=", 1)[1])


def talk(site: Site, mode: GenerationMode, *, logged_in: bool) -> int:
    """Send generated requests to every operation; each answer is validated. Returns how many were sent."""
    print(f"seed {SEED}; repeat with HHC_TEST_API_SEED={SEED}")
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", site.app)
    if logged_in:
        schema.auth(refresh_interval=None)(LogIn)
    sent = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        try:
            sent += try_operation(site, found.ok(), mode)
        except hypothesis.errors.Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, found.ok().label  # nothing can be wrong where nothing is sent
    return sent


def try_operation(site: Site, operation: Any, mode: GenerationMode) -> int:
    """Send generated requests to one operation."""
    sent = 0
    excluded = [positive_data_acceptance] if operation.label in RULED else []
    LogIn.token = fresh_token(site)

    def check(case: Any) -> None:
        nonlocal sent
        sent += 1
        try:
            case.call_and_validate(excluded_checks=excluded)
        finally:
            if operation.label in ENDS_SESSIONS:
                LogIn.token = fresh_token(site)

    settings = hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    hypothesis.seed(SEED)(settings(hypothesis.given(case=operation.as_strategy(mode))(check)))()
    return sent


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_who_is_logged_in_gets_only_described_answers(site: Site, mode: GenerationMode) -> None:
    ann = site.client("ann")
    bob = site.client("ann").get("/api/users?query=bob").json["users"][0]["id"]
    ann.post("/api/conversations", json={"kind": "direct", "member_ids": [bob]})

    assert talk(site, mode, logged_in=True) > EXAMPLES


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_nobody_gets_only_described_answers(site: Site, mode: GenerationMode) -> None:
    assert talk(site, mode, logged_in=False) > EXAMPLES
