"""kubeconform as a function, with the schemas that the package kubernetes-validate brings: nothing is fetched. Stateless."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster_harness import builds

COMMAND_SECONDS = 60.0


def check(objects: Sequence[Mapping[str, Any]], version: str) -> tuple[dict[str, int], list[str]]:
    """Return kubeconform's summary (how many are valid, invalid, errors, skipped), and a line for each object that is not valid.

    `version`: of Kubernetes, as 1.34.0. Raises: BuildError."""
    program = str(builds.program("kubeconform"))
    with tempfile.TemporaryDirectory() as directory:
        _copy_schemas(Path(directory), version, {str(one["kind"]).lower() for one in objects})
        location = f"{directory}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        done = subprocess.run(
            [program, "-strict", "-summary", "-verbose", "-output=json", f"-schema-location={location}", "-"],
            input="\n---\n".join(json.dumps(one) for one in objects),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
    said = json.loads(done.stdout)
    problems = [f"{one['kind']} {one['name']}: {one['msg']}" for one in said["resources"] if one["status"] != "statusValid"]
    return said["summary"], problems


def _copy_schemas(directory: Path, version: str, kinds: Iterable[str]) -> None:
    """The package's refer to each other by the address of an API server."""
    schemas = importlib.resources.files("kubernetes_validate") / f"kubernetes-json-schema/v{version}-local-strict"
    wanted = {"_definitions.json", *kinds}
    for schema in schemas.iterdir():
        if schema.name in wanted or schema.name.partition("-")[0] in wanted:
            found = json.loads(schema.read_text().replace('"/api/_definitions.json', '"_definitions.json'))
            found.pop("$id", None)
            (directory / schema.name).write_text(json.dumps(found))
