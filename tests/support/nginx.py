"""A real nginx that lists a directory, on loopback. Owns one process and its scratch directory for the length of a `with`."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.seaweed import free_ports
from tests.support.server_process import running

_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {scratch}/nginx.pid; error_log stderr warn; {user}
events {{ worker_connections 256; }}
http {{
  access_log off; default_type application/octet-stream; types {{ text/html html; }}
  client_body_temp_path {scratch}/t1; proxy_temp_path {scratch}/t2; fastcgi_temp_path {scratch}/t3;
  uwsgi_temp_path {scratch}/t4; scgi_temp_path {scratch}/t5;
  server {{
    listen {address}:{port};
    location / {{ root {root}; autoindex on; {directives} }}
    {locations}
  }}
}}
"""


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")


@contextlib.contextmanager
def nginx(
    root: Path, directives: str = "autoindex_exact_size off;", locations: str = "", address: str = "127.0.0.1"
) -> Iterator[str]:
    """Serve `root` with listings; yield the URL with its slash. `directives` go into `location /`, `locations` beside it."""
    program = find_nginx()
    assert program is not None, "nginx is not installed"
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="fusecache-nginx-") as name:
        scratch = Path(name)
        user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""  # else it cannot read what only root may
        config = _CONFIG.format(
            scratch=scratch, port=port, address=address, root=root, directives=directives, locations=locations, user=user
        )  # fmt: skip
        (scratch / "nginx.conf").write_text(config)
        command = [program, "-p", name, "-e", "stderr", "-c", str(scratch / "nginx.conf")]
        with running(command, port, scratch / "log", address=address):
            yield f"http://{address}:{port}/"
