"""Servers that the contract tests share; each starts once per run, when first asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.contract.source_suite")

from tests.support.moto import Moto  # noqa: E402
from tests.support.seaweed import Seaweed  # noqa: E402


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    with Moto() as server:
        yield server
