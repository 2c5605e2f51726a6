"""What the tests of the hub share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from realtime.hub_site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """A site with one room of users 1 and 2."""
    made = Site()
    made.room(1, 2)
    yield made
    made.close()
