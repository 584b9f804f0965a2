"""Where a store that speaks HTTP is, and how it is waited for. Stateless."""

from __future__ import annotations

from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where and how to connect. Times in seconds; `ca_file` replaces the system's certificates when given."""

    scheme: str
    host: str
    port: int
    ca_file: str = ""
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == (443 if self.scheme == "https" else 80)
        return f"{self.scheme}://{host}" if is_default else f"{self.scheme}://{host}:{self.port}"

    def failure(self, kind: ErrorKind, what: str) -> CacheError:
        """Return the error that tells of this store."""
        return CacheError(kind, f"the store at {self.origin} {what}")
