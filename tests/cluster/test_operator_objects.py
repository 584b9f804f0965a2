"""The operator's door to the API server, and its Lease: against a real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from lightkube import AsyncClient, KubeConfig

from csi.operator.leader import Leadership, LostError
from csi.operator.objects import Kind, Objects
from tests.support.kubectl import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CONFIG_MAPS = Kind("", "v1", "ConfigMap", "configmaps")
NAMESPACES = Kind("", "v1", "Namespace", "namespaces", is_namespaced=False)
DURATION_SECONDS = 3.0


def run(kubeconfig: Path, work: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        client = AsyncClient(config=KubeConfig.from_file(str(kubeconfig)))
        try:
            await work(client)
        finally:
            await client.aclose()

    asyncio.run(main())


def test_objects_are_applied_read_merged_and_deleted(kubeconfig: Path, namespace: Kubectl) -> None:
    async def work(client: AsyncClient) -> None:
        objects = Objects(client)
        where = namespace.namespace
        assert await objects.get(CONFIG_MAPS, "one", where) is None
        assert not await objects.delete(CONFIG_MAPS, "one", where)
        assert not await objects.merge(CONFIG_MAPS, "one", {"data": {"a": "1"}}, where)
        raw = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "one", "namespace": where, "labels": {"color": "blue"}},
            "data": {"a": "1", "b": "2"},
        }
        applied = await objects.apply(raw)
        assert applied["data"] == {"a": "1", "b": "2"}
        assert await objects.merge(CONFIG_MAPS, "one", {"data": {"b": None, "c": "3"}}, where)
        await objects.apply({**raw, "data": {"a": "4"}})
        found = await objects.get(CONFIG_MAPS, "one", where)
        assert found is not None
        assert found["data"] == {"a": "4", "c": "3"}, "what is ours follows, what others wrote stays"
        named = [one["metadata"]["name"] async for one in objects.list(CONFIG_MAPS, where, {"color": "blue"})]
        assert named == ["one"]
        everywhere = [one["metadata"]["namespace"] async for one in objects.list(CONFIG_MAPS)]
        assert where in everywhere
        assert "kube-system" in everywhere
        assert [one async for one in objects.list(NAMESPACES) if one["metadata"]["name"] == where]
        assert await objects.delete(CONFIG_MAPS, "one", where)

    run(kubeconfig, work)


def test_who_stood_still_for_too_long_writes_nothing(kubeconfig: Path, namespace: Kubectl) -> None:
    async def work(client: AsyncClient) -> None:
        leadership = Leadership(client, namespace.namespace, "lease", "first", DURATION_SECONDS)
        objects = Objects(client, check=leadership.check)
        raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": namespace.namespace}}
        writes = (
            lambda: objects.apply(raw),
            lambda: objects.merge(CONFIG_MAPS, "one", {"data": {"a": "1"}}, namespace.namespace),
            lambda: objects.delete(CONFIG_MAPS, "one", namespace.namespace),
        )
        for write in writes:
            with pytest.raises(LostError, match="ran out"):
                await write()
        await leadership.acquire()
        await objects.apply(raw)
        time.sleep(DURATION_SECONDS)  # noqa: ASYNC251 - a process that is stopped: nothing of it runs
        for write in writes:
            with pytest.raises(LostError, match="ran out"):
                await write()
        found = await objects.get(CONFIG_MAPS, "one", namespace.namespace)
        assert found is not None
        assert "data" not in found
        keeping = asyncio.create_task(leadership.keep())  # nobody else took it meanwhile
        await asyncio.sleep(DURATION_SECONDS / 2)
        assert await objects.merge(CONFIG_MAPS, "one", {"data": {"a": "1"}}, namespace.namespace)
        keeping.cancel()

    run(kubeconfig, work)


def test_one_operator_at_a_time(kubeconfig: Path, namespace: Kubectl) -> None:
    async def work(client: AsyncClient) -> None:
        first, second = (Leadership(client, namespace.namespace, "lease", name, DURATION_SECONDS) for name in ("first", "second"))
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(2 * DURATION_SECONDS)
        assert not waiting.done(), "two at a time"
        keeping.cancel()  # it hangs, or was killed
        began = time.monotonic()
        await asyncio.wait_for(waiting, 4 * DURATION_SECONDS)
        assert time.monotonic() - began > DURATION_SECONDS / 3
        with pytest.raises(LostError):
            await asyncio.wait_for(first.keep(), 3 * DURATION_SECONDS)
        await second.release()
        began = time.monotonic()
        await asyncio.wait_for(first.acquire(), DURATION_SECONDS)
        lease = namespace.get("lease", "lease")["spec"]
        assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("first", 3)

    run(kubeconfig, work)
