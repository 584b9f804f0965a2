"""A real NFS server (nfs-ganesha) on loopback, in user space. Owns a process and its directory for a `with`; needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.seaweed import free_ports
from tests.support.server_process import running

_CONFIG = """
NFS_CORE_PARAM {{
  NFS_Protocols = 4; NFS_Port = {port}; Bind_addr = {address}; Enable_NLM = false; Enable_RQUOTA = false;
  Plugins_Dir = {plugins};
}}
NFSv4 {{ Graceless = true; RecoveryRoot = {scratch}; Minor_Versions = 0,1; Only_Numeric_Owners = true; }}
EXPORT_DEFAULTS {{ Squash = {squash}; }}
EXPORT {{
  Export_Id = 1; Path = {root}; Pseudo = /exp; Access_Type = {access}; Protocols = 4; SecType = sys; Transports = TCP;
  Attr_Expiration_Time = 0;
  FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = WARN; }}
"""


@dataclass(frozen=True, slots=True)
class Ganesha:
    """`url` names the export's root, without a trailing slash."""

    url: str
    port: int
    pid: int


def missing_ganesha() -> str | None:
    """Return why no server can be started here, or None if one can."""
    if os.geteuid() != 0:
        return "nfs-ganesha needs root"
    if shutil.which("ganesha.nfsd") is None:
        return "nfs-ganesha is not installed (apt install nfs-ganesha nfs-ganesha-vfs)"
    return None if _plugins() else "the VFS plug-in of nfs-ganesha is not installed (apt install nfs-ganesha-vfs)"


@contextlib.contextmanager
def ganesha(
    root: Path, port: int | None = None, squash: str = "No_Root_Squash", access: str = "RO", address: str = "127.0.0.1"
) -> Iterator[Ganesha]:
    """Export `root` under `/exp`, with `access` RO or RW. `root` must be on a file system with handles (ext4, xfs, tmpfs)."""
    port = port or free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="fusecache-ganesha-") as name:
        scratch = Path(name)
        (scratch / "conf").write_text(
            _CONFIG.format(port=port, scratch=name, root=root, plugins=_plugins(), squash=squash, access=access, address=address)
        )
        command = ["ganesha.nfsd", "-F", "-f", f"{name}/conf", "-L", f"{name}/ganesha.log", "-p", f"{name}/pid"]
        with running(command, port, scratch / "out", address=address) as pid:
            yield Ganesha(f"nfs://{address}:{port}/exp", port, pid)


def _plugins() -> Path | None:
    for directory in (
        Path("/usr/lib/x86_64-linux-gnu/ganesha"),
        Path("/usr/lib/aarch64-linux-gnu/ganesha"),
        Path("/usr/lib64/ganesha"),
    ):
        if (directory / "libfsalvfs.so").exists():
            return directory
    return None
