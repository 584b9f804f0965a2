"""What people do with a Dataset in a cluster, and what they see: manifests of the articles, `kubectl get`, programs in pods."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.kubectl import Kubectl
from tests.support.mounted import ROOT, wait_until

MANIFESTS = ROOT / "tests" / "manifests"
EXEC_SECONDS = 400.0
_TIMED_COPY = """
rm -rf $2 && mkdir -p $2 && start=$(date +%s%N) && cp -R $1/* $2 && end=$(date +%s%N) && echo $((end - start)) && rm -rf $2
"""


def create(kubectl: Kubectl, manifest: str, **replaced: str) -> None:
    """`kubectl create -f` of a manifest as it is printed, with other addresses of stores (and keys) than the printed ones."""
    text = (MANIFESTS / manifest).read_text()
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    kubectl("create", "--validate=strict", "--filename=-", stdin=text)


def printed(kubectl: Kubectl, *what: str) -> list[dict[str, str]]:
    """Return what `kubectl get` prints: column → value, of each line. Columns are found by the title line, as people do."""
    title, *lines = kubectl("get", *what).splitlines()
    columns = [(match.start(), match.end(), match[0].strip()) for match in re.finditer(r"\S+( \S+)*\s*", title)]
    return [{name: line[start:end].strip() for start, end, name in columns} for line in lines]


def shows(kubectl: Kubectl, name: str, seconds: float = 40.0, **wanted: str) -> dict[str, str]:
    """Wait until `kubectl get dataset NAME` prints these values; spaces of titles are underscores here."""
    last: list[dict[str, str]] = []

    def is_there() -> bool:
        last[:] = printed(kubectl, "dataset", name)
        return all(last[0][title.replace("_", " ")] == value for title, value in wanted.items())

    assert wait_until(is_there, seconds, 0.5), f"{last}, not {wanted}: {kubectl('describe', 'dataset', name)}"
    return last[0]


def wait_pod(kubectl: Kubectl, pod: str, seconds: int = 90) -> None:
    kubectl("wait", "--for=condition=Ready", f"pod/{pod}", f"--timeout={seconds}s", timeout_seconds=seconds + 10)


def in_pod(kubectl: Kubectl, pod: str, script: str, *arguments: str) -> str:
    """Run a script of bash in a pod and return what it printed. Raises: KubectlError."""
    return kubectl("exec", "--stdin", pod, "--", "bash", "-s", *arguments, stdin=script, timeout_seconds=EXEC_SECONDS)


def copy_seconds(kubectl: Kubectl, pod: str, source: str, target: str = "/tmp/copy") -> float:
    return int(in_pod(kubectl, pod, _TIMED_COPY, source, target)) / 1e9


def digests(kubectl: Kubectl, pod: str, directory: str = "/data") -> dict[str, str]:
    """Return name → SHA-256 of all files below a directory of a pod."""
    out = in_pod(kubectl, pod, 'cd "$1" && find . -type f -print0 | xargs -0 sha256sum', directory)
    return dict(_lines(out))


def _lines(out: str) -> Iterator[tuple[str, str]]:
    for line in out.splitlines():
        digest, name = line.split("  ", 1)
        yield name.removeprefix("./"), digest


def digests_of(root: Path) -> dict[str, str]:
    """The same of a directory of this machine."""
    files = (file for file in root.rglob("*") if file.is_file())
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def node_of(kubectl: Kubectl, pod: str) -> str:
    return str(kubectl.get("pod", pod)["spec"]["nodeName"])
