"""An operator in a cluster whose definitions are somebody else's: it ends before it touches an object."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from csi.operator.app.definitions_check import ForeignDefinitionsError, check_definitions
from csi.operator.crds.definition import definition
from csi.operator.model.kinds import KINDS
from csi.operator.objects import Kind


class Server:
    def __init__(self, found: dict[str, Any] | None) -> None:
        self._found = found

    async def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        assert (kind.plural, name) == ("customresourcedefinitions", "datasets.data.fluid.io")
        return self._found


def test_ours() -> None:
    asyncio.run(check_definitions(Server(definition(KINDS["Dataset"]))))  # type: ignore[arg-type]


@pytest.mark.parametrize(("found", "words"), [(None, "no definition"), ({"metadata": {"name": "x"}}, "is not fusecache's")])
def test_none_and_those_of_others(found: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ForeignDefinitionsError, match=words):
        asyncio.run(check_definitions(Server(found)))  # type: ignore[arg-type]
