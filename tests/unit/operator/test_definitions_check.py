"""An operator in a cluster whose definitions are somebody else's: it ends before it touches an object."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lightkube import ApiError
from lightkube.models.meta_v1 import Status

from csi.operator.app.definitions_check import ForeignDefinitionsError, check_definitions
from csi.operator.crds.definition import definition
from csi.operator.model.kinds import KINDS
from csi.operator.names import DIGEST_ANNOTATION
from csi.operator.objects import Kind
from tests.support.log_check import LogCheck


def refusal(code: int) -> ApiError:
    return ApiError(status=Status(code=code, message="refused"))


class Server:
    """Has ours, but for what the test says; None: there is none. An exception: is raised."""

    def __init__(self, **other: dict[str, Any] | Exception | None) -> None:
        self._all = {kind.plural: definition(kind) for kind in KINDS.values()} | other

    async def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        assert kind.plural == "customresourcedefinitions"
        found = self._all[name.removesuffix(".data.fluid.io")]
        if isinstance(found, Exception):
            raise found
        return found


def check(**other: dict[str, Any] | Exception | None) -> None:
    asyncio.run(check_definitions(Server(**other)))  # type: ignore[arg-type]


def test_ours() -> None:
    check()


def test_ours_of_another_version(expect_log: LogCheck) -> None:
    """A release without `definitions.install`: the operator is new, what the API server checks and shows is not."""
    expect_log(r"of efcruntimes, dataloads in this cluster .* kubectl apply --server-side --filename deploy/crds")
    older = definition(KINDS["DataLoad"])
    older["metadata"]["annotations"][DIGEST_ANNOTATION] = "older"
    check(dataloads=older, efcruntimes=None)


def test_a_role_that_may_not_read_them_all() -> None:
    check(thinruntimes=refusal(403))
    with pytest.raises(ApiError):
        check(thinruntimes=refusal(500))


@pytest.mark.parametrize(("found", "words"), [(None, "no definition"), ({"metadata": {"name": "x"}}, "is not fusecache's")])
def test_none_and_those_of_others(found: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ForeignDefinitionsError, match=words):
        check(datasets=found)
