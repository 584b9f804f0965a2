"""The image registry of a cluster: what kubelets pull from. Runs in the control plane's box, with the machine's Python alone.

It serves a directory, written by registry.py: `blobs/sha256/DIGEST`, and `tags/HOST/NAME/TAG`, a file with a manifest's digest.
State: none beside that; started as `python3 registry_server.py DIRECTORY ADDRESS PORT`.
"""

import http.server
import re
import shutil
import sys
import urllib.parse
from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PATH = re.compile(r"/v2/(?P<name>[a-z0-9._/-]+)/(?P<what>manifests|blobs)/(?P<reference>[A-Za-z0-9._:-]+)")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/v2/":
            self._begin(200, 0)
            return
        match = PATH.fullmatch(url.path)
        host = urllib.parse.parse_qs(url.query).get("ns", [""])[0]
        digest = self._digest(host, match["name"], match["reference"]) if match and ".." not in url.path + host else None
        file = self.root / "blobs" / digest.replace(":", "/") if digest else None
        if match is None or file is None or not file.is_file():
            self._begin(404, 0)
            return
        kind = MANIFEST if match["what"] == "manifests" else "application/octet-stream"
        self._begin(200, file.stat().st_size, {"Content-Type": kind, "Docker-Content-Digest": digest or ""})
        if self.command != "HEAD":
            with file.open("rb") as content:
                shutil.copyfileobj(content, self.wfile, 1 << 20)

    do_HEAD = do_GET

    def _digest(self, host: str, name: str, reference: str) -> str | None:
        if reference.startswith("sha256:"):
            return reference
        tag = self.root / "tags" / host / name / reference
        return tag.read_text() if tag.is_file() else None

    def _begin(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


if __name__ == "__main__":
    Handler.root = Path(sys.argv[1])
    http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Handler).serve_forever()
