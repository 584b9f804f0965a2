"""Datasets that no cache pod serves: a short Job asks their sources, and what it found is kept in an annotation of the Dataset.

State: none; the annotation has the digest of what was asked, so that other sources or options are asked anew. A Job that failed
is tried again after a while.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from csi.operator.app.known import DATASETS, JOBS, PODS, Known
from csi.operator.app.observation import STORE_FAILED
from csi.operator.app.statuses import Seen
from csi.operator.figures import Figures
from csi.operator.names import OWN_DOMAIN
from csi.operator.objects import Objects
from csi.operator.render.cache_pod import CONFIG_DIGEST
from csi.operator.render.object_names import survey_name
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.render.survey import survey_digest, survey_job
from csi.operator.resolved import Problem, Resolved

ANNOTATION = f"{OWN_DOMAIN}/survey"  # {"digest", "files", "total_bytes"}
AGAIN_SECONDS = 20.0  # after a survey that failed
_ENDED = ("Succeeded", "Failed")


class Surveys:
    def __init__(self, objects: Objects, known: Known, installation: Installation) -> None:
        self._objects = objects
        self._known = known
        self._installation = installation

    async def look(
        self, raw: Mapping[str, Any], resolved: Resolved, credentials: Mapping[str, str], seen: Seen, identity: Identity
    ) -> Seen:
        """Return what is seen of a Dataset without cache pods, with what a survey found. Raises: ApiError, OSError."""
        digest = survey_digest(resolved, credentials)
        known = _recorded(raw)
        if known.get("digest") == digest:
            return replace(seen, figures=_figures(known))
        name, namespace = survey_name(resolved.name), resolved.namespace
        job = await self._objects.get(JOBS, name, namespace)
        if job is not None and job["metadata"].get("annotations", {}).get(CONFIG_DIGEST) != digest:
            await self._objects.delete(JOBS, name, namespace)
            return seen
        if job is None:
            await self._objects.apply(survey_job(resolved, credentials, self._installation, identity))
            return seen
        pod = self._pod(job)
        if pod is None or pod["status"].get("phase") not in _ENDED:
            return seen
        said = _said(pod)
        if pod["status"]["phase"] == "Succeeded" and (found := _parsed(said)) is not None:
            annotation = json.dumps({"digest": digest, **found})
            patch = {"metadata": {"annotations": {ANNOTATION: annotation}}}
            await self._objects.merge(DATASETS, resolved.name, patch, namespace)
            await self._objects.delete(JOBS, name, namespace)
            return replace(seen, figures=_figures(found))
        if _seconds_since(job) > AGAIN_SECONDS:
            await self._objects.delete(JOBS, name, namespace)
        return replace(seen, problems=[Problem(STORE_FAILED, said or "the sources could not be asked", heals=True)])

    def _pod(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        uid = job["metadata"]["uid"]
        pods = (
            pod for pod in self._known.all(PODS) if any(one["uid"] == uid for one in pod["metadata"].get("ownerReferences", ()))
        )
        return next(pods, None)


def _recorded(raw: Mapping[str, Any]) -> dict[str, Any]:
    found = _parsed(raw["metadata"].get("annotations", {}).get(ANNOTATION, ""))
    return found or {}


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
        return {**found, "files": int(found["files"]), "total_bytes": int(found["total_bytes"])}
    except (ValueError, KeyError, TypeError):
        return None


def _figures(found: Mapping[str, Any]) -> Figures:
    return Figures(answered=1, is_listed=True, files=found["files"], total_bytes=found["total_bytes"])


def _said(pod: Mapping[str, Any]) -> str:
    for container in pod["status"].get("containerStatuses", ()):
        ended = container.get("state", {}).get("terminated", {})
        if ended.get("message"):
            return str(ended["message"]).strip().splitlines()[-1]
    return str(pod["status"].get("message", ""))


def _seconds_since(job: Mapping[str, Any]) -> float:
    made = datetime.datetime.fromisoformat(job["metadata"]["creationTimestamp"])
    return (datetime.datetime.now(datetime.UTC) - made).total_seconds()
