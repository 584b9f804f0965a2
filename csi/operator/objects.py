"""Objects of the cluster as plain dictionaries: read, applied server-side under our name, deleted. One door to the API server.

State: the client's connections. Used from one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightkube import ApiError, AsyncClient, codecs
from lightkube.core.exceptions import LoadResourceError
from lightkube.core.resource_registry import resource_registry
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.types import CascadeType, PatchType

from csi.operator.reaching import NoteCall, note_nothing, reaching

FIELD_MANAGER = "fusecache"
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Kind:
    """`group` "": of the core."""

    group: str
    version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


DEFINITIONS = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", is_namespaced=False)


class Objects:
    """Dictionaries in, dictionaries out. Raises: ApiError, but for what is said of each call; ConnectionError."""

    def __init__(
        self,
        client: AsyncClient,
        note: NoteCall = note_nothing,
        note_merged: Callable[[Kind, dict[str, Any]], None] = lambda kind, raw: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`note`: is told of each call; `note_merged`: what an object is after `merge`. `check`: raises where nothing may be
        written any more."""
        self._client = client
        self._note = note
        self._note_merged = note_merged
        self._check = check
        self._types: dict[Kind, Any] = {}

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        """Return None for what is not there."""
        try:
            with reaching(self._note, "get", kind.plural):
                found = await self._client.get(self._type(kind), name, namespace=namespace)
        except ApiError as error:
            if error.status.code == NOT_FOUND:
                return None
            raise
        return _plain(found)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield all of a kind, in all namespaces if none is named, a page at a time."""
        where = namespace if namespace is not None or not kind.is_namespaced else "*"
        with reaching(self._note, "list", kind.plural):
            async for one in self._client.list(self._type(kind), namespace=where, labels=dict(labels or {}), chunk_size=500):
                yield _plain(one)

    async def list_with_version(self, kind: Kind, labels: Mapping[str, str]) -> tuple[Sequence[dict[str, Any]], str]:
        """Return all of a kind with these labels, in all namespaces, and the version of the list, from which a watch goes on."""
        found = self._client.list(self._type(kind), namespace="*", labels=dict(labels), chunk_size=500)
        with reaching(self._note, "list", kind.plural):
            raws = [_plain(one) async for one in found]
        return raws, found.resourceVersion

    async def apply(self, raw: Mapping[str, Any], kind: Kind | None = None, *, force: bool = True) -> dict[str, Any]:
        """Make an object what it is to be, whatever it was: fields that others own are left to them unless we name them.

        `kind`: of the object, if it is none of Kubernetes' own."""
        if kind is not None:
            self._type(kind)  # the library finds it by what the object says, once it knows it
        self._check()
        with reaching(self._note, "apply", f"{raw['kind'].lower()}s"):
            applied = await self._client.apply(codecs.from_dict(dict(raw)), field_manager=FIELD_MANAGER, force=force)
        return _plain(applied)

    async def merge(
        self, kind: Kind, name: str, patch: Mapping[str, Any], namespace: str | None = None, *, is_status: bool = False
    ) -> bool:
        """Merge a patch into an object, or into its status; None removes a key. Return False for what is not there."""
        target = self._type(kind).Status if is_status else self._type(kind)
        return await self._patch(kind, target, name, patch, namespace, PatchType.MERGE)

    async def resize(self, pods: Kind, name: str, namespace: str, requests: Mapping[str, Mapping[str, str]]) -> bool:
        """Have a running pod request something else: container → resource → quantity. Return False where there is no such pod,
        or, before Kubernetes 1.33, no such call."""
        containers = [{"name": container, "resources": {"requests": dict(wanted)}} for container, wanted in requests.items()]
        patch = {"spec": {"containers": containers}}
        return await self._patch(pods, self._type(pods).Resize, name, patch, namespace, PatchType.STRATEGIC)

    async def _patch(
        self, kind: Kind, target: Any, name: str, patch: Mapping[str, Any], namespace: str | None, how: PatchType
    ) -> bool:
        self._check()
        try:
            with reaching(self._note, "patch", kind.plural):
                patched = await self._client.patch(
                    target, name, dict(patch), namespace=namespace, patch_type=how, field_manager=FIELD_MANAGER
                )
        except ApiError as error:
            if error.status.code == NOT_FOUND:
                return False
            raise
        self._note_merged(kind, _plain(patched))
        return True

    async def delete(self, kind: Kind, name: str, namespace: str | None = None) -> bool:
        """Return False for what was not there. What the object owns goes with it, as the garbage collector finds it."""
        self._check()
        try:
            with reaching(self._note, "delete", kind.plural):
                await self._client.delete(self._type(kind), name, namespace=namespace, cascade=CascadeType.BACKGROUND)
        except ApiError as error:
            if error.status.code == NOT_FOUND:
                return False
            raise
        return True

    async def watch(
        self, kind: Kind, resource_version: str | None = None, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (ADDED, MODIFIED, DELETED; object) of all namespaces until the server ends it."""
        where = "*" if kind.is_namespaced else None
        with reaching(self._note, "watch", kind.plural):
            async for what, found in self._client.watch(
                self._type(kind), namespace=where, resource_version=resource_version, labels=dict(labels or {})
            ):
                yield what, _plain(found)

    def _type(self, kind: Kind) -> Any:
        if kind not in self._types:
            try:  # the library knows some kinds itself, and takes no second class for one of them
                self._types[kind] = resource_registry.load(kind.api_version, kind.kind)
            except LoadResourceError:
                make = create_namespaced_resource if kind.is_namespaced else create_global_resource
                self._types[kind] = make(kind.group, kind.version, kind.kind, kind.plural)
        return self._types[kind]


def _plain(found: Any) -> dict[str, Any]:
    raw: dict[str, Any] = found.to_dict() if hasattr(found, "to_dict") else dict(found)
    return raw
