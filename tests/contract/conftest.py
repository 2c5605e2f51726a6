"""Shared fixtures: everything rendered once per inventory and recorded system."""

from __future__ import annotations

import pytest

from render import FACTS, INVENTORIES, SANDBOX_SYSTEMS, Rendered, render

#: A sandbox host is a Debian in a container; a server may be any system.
CASES = [(i, s) for i in INVENTORIES for s in FACTS if not i.startswith("sandbox") or s in SANDBOX_SYSTEMS]


@pytest.fixture(
    scope="session",
    params=CASES,
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """All templates of all roles for one (inventory, system)."""
    inventory, system = request.param
    return render(inventory, system, tmp_path_factory.mktemp(f"{inventory}-{system}"))
