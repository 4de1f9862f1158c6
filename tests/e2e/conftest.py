"""What every test with the real torch needs."""

from __future__ import annotations

import pytest

from tests.needs import need, need_package


@pytest.fixture(scope="session")
def real_torch() -> None:
    """torch, and the compiler that it runs for the CPU."""
    need_package("torch", "torch")
    need("g++")
