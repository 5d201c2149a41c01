"""What the tests of replays share."""

import pytest

from tests.tiny_router import write_router


@pytest.fixture(scope="session")
def routers(tmp_path_factory):
    """A tiny router of each architecture; tests must not change them."""
    root = tmp_path_factory.mktemp("routers")
    return [write_router(root / name, name) for name in ("session", "conversation")]
