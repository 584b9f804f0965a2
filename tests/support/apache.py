"""A real Apache that lists a directory, on loopback. Owns its processes and scratch directory for the length of a `with`."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.seaweed import free_ports
from tests.support.server_process import running

MODULES = Path("/usr/lib/apache2/modules")
_CONFIG = """
ServerRoot {scratch}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {scratch}/pid
ErrorLog {scratch}/error.log
Mutex file:{scratch} default
StartServers 1
ServerLimit 2
ThreadsPerChild 25
MaxRequestWorkers 50
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authn_file_module {modules}/mod_authn_file.so
LoadModule auth_basic_module {modules}/mod_auth_basic.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule autoindex_module {modules}/mod_autoindex.so
TypesConfig /dev/null
{user}
DocumentRoot {root}
<Directory {root}>
  Options Indexes FollowSymLinks
  Require all granted
  {directives}
</Directory>
"""


def find_apache() -> str | None:
    program = shutil.which("apache2") or shutil.which("apache2", path="/usr/sbin:/sbin")
    return program if program and (MODULES / "mod_autoindex.so").exists() else None


@contextlib.contextmanager
def apache(root: Path, directives: str = "IndexOptions FancyIndexing HTMLTable NameWidth=*") -> Iterator[str]:
    """Serve `root` with listings; yield the URL with its trailing slash. `directives` go into its <Directory>.

    Its workers give up root, so `root` and what is above it must be readable for everybody.
    """
    program = find_apache()
    assert program is not None, "apache2 with mod_autoindex is not installed"
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="fusecache-apache-") as name:
        scratch = Path(name)
        user = "User www-data\nGroup www-data" if scratch.owner() == "root" else ""
        config = _CONFIG.format(scratch=name, port=port, root=root, directives=directives, modules=MODULES, user=user)
        (scratch / "httpd.conf").write_text(config)
        with running([program, "-f", f"{name}/httpd.conf", "-D", "FOREGROUND"], port, scratch / "log"):
            yield f"http://127.0.0.1:{port}/"
