"""Shared fixtures: everything rendered once per inventory and recorded system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from render import FACTS, INVENTORIES, SANDBOX_SYSTEMS, Rendered, render

#: A sandbox host is a Debian in a container; a server may be any system.
CASES = [(i, s) for i in INVENTORIES for s in FACTS if not i.startswith("sandbox") or s in SANDBOX_SYSTEMS]


@pytest.fixture(scope="session")
def renders(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[Rendered]]]:
    """Every case the chosen tests ask for, begun at once: one takes seconds of one processor."""
    callspecs = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = dict.fromkeys(spec.params["rendered"] for spec in callspecs if spec and "rendered" in spec.params)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {case: pool.submit(render, *case, tmp_path_factory.mktemp("-".join(case))) for case in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session", params=CASES, ids=lambda p: f"{p[0]}-{p[1]}")
def rendered(request: pytest.FixtureRequest, renders: dict[tuple[str, str], Future[Rendered]]) -> Rendered:
    """All templates of all roles for one (inventory, system)."""
    return renders[request.param].result()
