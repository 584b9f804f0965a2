"""Who may do what with the files of a Dataset, and whom they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from csi.operator.formats import quantity_bytes
from csi.operator.model.dataset import Dataset
from csi.operator.model.user import User
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.reasons import RUN_AS_GROUP
from csi.operator.resolved import ResolvedSource
from fusecache.contract.errors import CacheError

READ_ONLY_MANY = "ReadOnlyMany"
SIZE_ANNOTATION = "pvc.fluid.io/resources.requests.storage"
DEFAULT_SIZE = "100Gi"
_MODES = (READ_ONLY_MANY, "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_AS_GROUP = (
    "pvc:// and local:// mounts are read as a member of runAs.gid, not as runAs.uid: let the group read what only its user may"
)
_AS_NOBODY = "pvc:// and local:// mounts are read as nobody in particular, not as runAs: name a group above 0 that may read them"
_LARGEST_ID = (1 << 32) - 2  # that of nobody else: -1 means "leave it" to chown


def access_modes(dataset: Dataset, findings: Findings) -> tuple[str, ...]:
    """Return the access modes of the volume, each once."""
    modes = tuple(dict.fromkeys(dataset.spec.access_modes)) or (READ_ONLY_MANY,)
    if not set(modes) <= set(_MODES):
        findings.refuse(f"spec.accessModes has an unknown mode: known are {', '.join(_MODES)}")
        return (READ_ONLY_MANY,)
    return modes


def storage_size(dataset: Dataset, findings: Findings) -> str:
    """Return the size that the volume shows, as a quantity."""
    text = dataset.metadata.annotations.get(SIZE_ANNOTATION)
    if text is None:
        return DEFAULT_SIZE
    try:
        is_size = quantity_bytes(text) > 0
    except CacheError:
        is_size = False
    if not is_size:
        findings.refuse(f"the annotation {SIZE_ANNOTATION} must be a size such as 100Gi")
    return text


def source_group(run_as: User | None, sources: Sequence[ResolvedSource], findings: Findings) -> int | None:
    """Return the group as whose member cache pods read claims and directories of nodes.

    Their user is the Dataset's own on each node, whoever is asked for: the cache belongs to it. Never group 0: it is root's.
    """
    if run_as is None or not any(source.claim or source.host_path for source in sources):
        return None
    findings.remark(RUN_AS_GROUP, _AS_GROUP if run_as.gid > 0 else _AS_NOBODY, on_runtime=True)
    return run_as.gid if run_as.gid > 0 else None


def owner_settings(
    owner: User | None, run_as: User | None, decided: Mapping[str, str], *, is_written: bool, findings: Findings
) -> dict[str, str]:
    """Return uid, gid and modes as settings of the mount.

    The Dataset's owner wins over `uid` and `gid` of mount options, these over whom the runtime runs as. The first two hold for
    all files, the third only for those whose source has no owners. Without any, files belong to root, and everybody may write
    where anybody may.
    """
    for user, path, on_runtime in ((owner, "spec.owner", False), (run_as, "spec.runAs", True)):
        if user is not None and not (0 <= user.uid <= _LARGEST_ID and 0 <= user.gid <= _LARGEST_ID):
            findings.refuse(f"{path}: uid and gid must be from 0 to {_LARGEST_ID}", on_runtime=on_runtime)
            return {}
    settings = {"uid": "0", "gid": "0"}
    if owner is not None:
        settings = {"uid": str(owner.uid), "gid": str(owner.gid), "override_owner": "true"}
    elif "uid" in decided or "gid" in decided:
        settings = {"uid": decided.get("uid", "0"), "gid": decided.get("gid", "0"), "override_owner": "true"}
    elif run_as is not None:
        settings = {"uid": str(run_as.uid), "gid": str(run_as.gid)}
    elif is_written:
        settings |= {"file_mode": "0666", "dir_mode": "0777"}
    if "umask" in decided:
        kept = ~int(decided["umask"], 8)
        file_mode, dir_mode = (0o666, 0o777) if is_written else (0o444, 0o555)
        settings |= {"file_mode": f"{file_mode & kept:04o}", "dir_mode": f"{dir_mode & kept:04o}"}
    return settings
