"""Fixtures of the tests against a whole site: the site, the host by testinfra, two people made for a test."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra
from site_under_test import Site
from testinfra.host import Host


@pytest.fixture(scope="session")
def site() -> Site:
    """The site, reached as people and as ops reach it."""
    return Site()


@pytest.fixture(scope="session")
def server(site: Site) -> Host:
    """The host, asked by testinfra over ssh as root."""
    argv = site.ssh_argv()
    extra = " ".join(argv[3:-1])
    return testinfra.get_host(f"ssh://ops@{site.address}?sudo=True", ssh_identity_file=argv[2], ssh_extra_args=extra)


@pytest.fixture
def probe(site: Site) -> Iterator[dict[str, Any]]:
    """Two people and a conversation of both, removed afterwards."""
    yield json.loads(site.root("hockey-hub-chat probe begin"))
    site.root("hockey-hub-chat probe end")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Chance that can be repeated: CHAT_TEST_SEED=… runs the same waits again."""
    seed = int(os.environ.get("CHAT_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"\nseed: CHAT_TEST_SEED={seed} ({request.node.name})")
    return random.Random(seed)  # noqa: S311 - chance for tests, no secret


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the figures the tests measured for the end of the run."""
    config.stash[FIGURES] = []


FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Any:
    """Note a measured figure: it is printed at the end of the run, passed or not."""
    return request.config.stash[FIGURES].append


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures."""
    for line in config.stash[FIGURES]:
        terminalreporter.write_line(f"figure: {line}")
