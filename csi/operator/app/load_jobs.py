"""Jobs of DataLoads in the cluster: made, found, asked how far they are, removed. State: tokens that were read in the
last seconds. Raises: ApiError, OSError."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from csi.operator.app.daemons import Daemons
from csi.operator.app.known import CRON_JOBS, JOBS, NODES, PODS
from csi.operator.app.load_statuses import Report, Run, report_of
from csi.operator.app.secret_values import SecretValues
from csi.operator.names import OWN_DOMAIN
from csi.operator.objects import Kind, Objects
from csi.operator.operation_place import place_of
from csi.operator.render.credentials import TOKEN_KEY
from csi.operator.render.loader import loader, loader_token_secret
from csi.operator.render.object_names import COMPONENT_LABEL, DATASET_LABEL, loader_name, token_name
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.resolved_load import ResolvedLoad

GENERATION = f"{OWN_DOMAIN}/generation"  # of the DataLoad that a Job was made for
_DIGEST = f"{OWN_DOMAIN}/digest"  # of a CronJob as it was rendered


class LoadJobs:
    def __init__(self, objects: Objects, daemons: Daemons, installation: Installation) -> None:
        self._objects = objects
        self._secrets = SecretValues(objects)
        self._daemons = daemons
        self._installation = installation

    async def find(self, raw: Mapping[str, Any], *, is_repeated: bool = False) -> dict[str, Any] | None:
        """Return the Job or CronJob under the name of a DataLoad's, whoever owns it."""
        metadata = raw["metadata"]
        return await self._objects.get(
            CRON_JOBS if is_repeated else JOBS, loader_name(metadata["name"], is_repeated=is_repeated), metadata["namespace"]
        )

    async def make(self, raw: Mapping[str, Any], load: ResolvedLoad) -> None:
        """Create the Job, or bring the CronJob up to date; what it needs to prove who it is comes first."""
        metadata = raw["metadata"]
        identity = Identity(metadata["uid"])
        token = loader_token_secret(load, await self._token(load), identity)
        if token is not None:
            await self._objects.apply(token)
        job = loader(load, self._installation, identity)
        digest = _digest(job)
        job["metadata"]["annotations"] = {GENERATION: str(metadata.get("generation", 0)), _DIGEST: digest}
        if load.policy == "Cron":
            there = await self.find(raw, is_repeated=True)
            if there is not None and there["metadata"].get("annotations", {}).get(_DIGEST) == digest:
                return
        await self._objects.apply(job)

    async def latest_of(self, cron: Mapping[str, Any], load: ResolvedLoad) -> dict[str, Any] | None:
        """Return the Job that a CronJob has made last."""
        labels = {DATASET_LABEL: load.dataset, COMPONENT_LABEL: "loader"}
        jobs = [job async for job in self._objects.list(JOBS, load.namespace, labels) if is_owned(job, cron["metadata"]["uid"])]
        return max(jobs, key=lambda job: (Run.of_job(job).scheduled, job["metadata"]["name"]), default=None)

    async def delete(self, raw: Mapping[str, Any], *, is_repeated: bool = False) -> bool:
        """Delete Job or CronJob with its pods, if it is the DataLoad's own. Return whether there was one."""
        job = await self.find(raw, is_repeated=is_repeated)
        if job is None or not is_owned(job, raw["metadata"]["uid"]):
            return False
        kind: Kind = CRON_JOBS if is_repeated else JOBS
        await self._objects.delete(kind, job["metadata"]["name"], job["metadata"]["namespace"])
        return True

    async def report(self, run: Run, load: ResolvedLoad, annotations: Mapping[str, str]) -> tuple[Report, dict[str, Any]]:
        """Return what a run says of itself, at its end or now, and where it runs."""
        pods = [pod async for pod in self._objects.list(PODS, load.namespace, {"job-name": run.name})]
        pods.sort(key=lambda pod: pod["metadata"].get("creationTimestamp", ""))
        place = await self._place(pods[-1], annotations) if pods and run.outcome else {}
        if run.outcome:
            return report_of(pods), place
        running = [
            pod["status"] for pod in pods if pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIP")
        ]
        if not running:
            return Report(), place
        answers = await self._daemons.statuses([running[-1]["podIP"]], await self._token(load))
        return Report(figures=answers.statuses[0] if answers.statuses else {}), place

    async def _place(self, pod: Mapping[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
        node = await self._objects.get(NODES, pod["spec"].get("nodeName", "")) if pod["spec"].get("nodeName") else None
        return place_of(node["metadata"].get("labels", {}), annotations) if node else {}

    async def _token(self, load: ResolvedLoad) -> str:
        values = await self._secrets.get(load.dataset_namespace, token_name(load.dataset))
        return (values or {}).get(TOKEN_KEY, "")


def is_owned(job: Mapping[str, Any], uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in job["metadata"].get("ownerReferences", ()))


def _digest(job: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]
