"""Datasets that no cache pod serves: a short Job asks their sources, and what it found is kept in an annotation of the Dataset.

The annotation has the digest of what was asked, so that other sources or options are asked anew. A Job that failed is tried again
after a while. State: which Jobs were made in the last seconds, so that not all start at a time; what the last one of a Dataset
said if it failed, which holds until the next one has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from csi.operator.app.known import DATASETS, JOBS, PODS, Key, Known, key_of
from csi.operator.app.observation import PODS_FAILED, STORE_FAILED
from csi.operator.app.pod_problems import pod_problems
from csi.operator.app.statuses import USABLE, Seen
from csi.operator.app.times import age_seconds
from csi.operator.figures import Figures
from csi.operator.names import OWN_DOMAIN
from csi.operator.objects import Objects
from csi.operator.render.cache_pod import CONFIG_DIGEST
from csi.operator.render.object_names import COMPONENT_LABEL, DATASET_LABEL, survey_name
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.render.survey import COMPONENT, survey_digest, survey_job
from csi.operator.resolved import Problem, Resolved

ANNOTATION = f"{OWN_DOMAIN}/survey"  # {"digest", "files", "total_bytes"}
AGAIN_SECONDS = 20.0  # after a survey that failed
AT_ONCE = 8  # that are about to start, in the whole cluster: of hundreds none gets anywhere, nor does anything else; a guess
STARTING_SECONDS = 20.0  # afterwards a survey waits for a store, or its pod for room, and is in nobody's way
_ENDED = ("Succeeded", "Failed")


class Surveys:
    def __init__(self, objects: Objects, known: Known, installation: Installation) -> None:
        self._objects = objects
        self._known = known
        self._installation = installation
        self._made: dict[Key, float] = {}
        self._failed: dict[Key, tuple[str, Problem]] = {}  # with the digest of what was asked

    async def look(
        self, raw: Mapping[str, Any], resolved: Resolved, credentials: Mapping[str, str], seen: Seen, identity: Identity
    ) -> Seen:
        """Return what is seen of a Dataset without cache pods, with what a survey found. Raises: ApiError, OSError."""
        digest, key = survey_digest(resolved, credentials), (resolved.namespace, resolved.name)
        known = _recorded(raw)
        if known.get("digest") == digest:
            return replace(seen, figures=_figures(known))
        name, namespace = survey_name(resolved.name), resolved.namespace
        of_last, problem = self._failed.get(key, ("", None))
        meanwhile = replace(seen, problems=[problem]) if of_last == digest and problem is not None else seen
        if self._is_full(key):
            return meanwhile
        job = await self._objects.get(JOBS, name, namespace)
        if job is not None and job["metadata"].get("annotations", {}).get(CONFIG_DIGEST) != digest:
            await self._objects.delete(JOBS, name, namespace)
            return meanwhile
        if job is None:
            self._made[key] = time.monotonic()
            await self._objects.apply(survey_job(resolved, credentials, self._installation, identity))
            return meanwhile
        pod = self._pod(job)
        has_ended = pod is not None and pod["status"].get("phase") in _ENDED
        if not has_ended and not (lost := _lost(job)):
            if pod is None or raw.get("status", {}).get("phase") in USABLE:  # it can be used, whether it is asked again or not
                return meanwhile
            problems = [Problem(PODS_FAILED, one, heals=True) for one in pod_problems([pod], "survey pod")]
            return replace(seen, problems=problems) if problems else meanwhile
        said = _said(pod) if pod is not None and has_ended else lost
        if pod is not None and pod["status"].get("phase") == "Succeeded" and (found := _parsed(said)) is not None:
            annotation = json.dumps({"digest": digest, **found})
            patch = {"metadata": {"annotations": {ANNOTATION: annotation}}}
            await self._objects.merge(DATASETS, resolved.name, patch, namespace)
            await self._objects.delete(JOBS, name, namespace)
            self._failed.pop(key, None)
            return replace(seen, figures=_figures(found))
        if age_seconds(job) > AGAIN_SECONDS:
            await self._objects.delete(JOBS, name, namespace)
        return replace(seen, problems=[self._fail(key, digest, said or "the sources could not be asked")])

    def _fail(self, key: Key, digest: str, said: str) -> Problem:
        problem = Problem(STORE_FAILED, said, heals=True)
        there = {key_of(raw) for raw in self._known.all(DATASETS)}
        self._failed = {one: failed for one, failed in self._failed.items() if one in there}
        self._failed[key] = digest, problem
        return problem

    def _is_full(self, key: Key) -> bool:
        """Whether as many others are being asked as may be."""
        pods = {
            (pod["metadata"]["namespace"], pod["metadata"]["labels"][DATASET_LABEL]): pod
            for pod in self._known.all(PODS)
            if pod["metadata"].get("labels", {}).get(COMPONENT_LABEL) == COMPONENT
        }
        now = time.monotonic()
        self._made = {one: since for one, since in self._made.items() if one not in pods and now - since < STARTING_SECONDS}
        if key in pods or key in self._made:
            return False
        starting = sum(map(_is_starting, pods.values()))
        return len(self._made) + starting >= AT_ONCE

    def _pod(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        uid = job["metadata"]["uid"]
        pods = (
            pod for pod in self._known.all(PODS) if any(one["uid"] == uid for one in pod["metadata"].get("ownerReferences", ()))
        )
        return next(pods, None)


def _is_starting(pod: Mapping[str, Any]) -> bool:
    return pod["status"].get("phase") not in _ENDED and age_seconds(pod) < STARTING_SECONDS


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


def _lost(job: Mapping[str, Any]) -> str:
    """Return why a Job is over although there is no pod of it that would say so, "" if it is not."""
    for condition in job.get("status", {}).get("conditions", ()):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"the sources were not asked: {condition.get('reason', '')}: {condition.get('message', '')}"
    return ""


def _said(pod: Mapping[str, Any]) -> str:
    for container in pod["status"].get("containerStatuses", ()):
        ended = container.get("state", {}).get("terminated", {})
        if ended.get("message"):
            return str(ended["message"]).strip().splitlines()[-1]
    return str(pod["status"].get("message", ""))
