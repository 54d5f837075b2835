"""A verb called as a shell would, for tests that take it as a fixture."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.called import Ended, evermix


@pytest.fixture
def run() -> Callable[..., Ended]:
    """`run("fit", folder)` is `evermix fit folder`."""
    return evermix
