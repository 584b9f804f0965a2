"""Names of options whose values would be secrets. Stateless."""

from __future__ import annotations

import re

from fusecache.contract.errors import CacheError, ErrorKind

_SECRET = re.compile(
    r"secret|passw|passphrase|token|credential|signature|accesskey|accountkey|privatekey|apikey|connectionstring"
)
_NAMES_A_FILE = re.compile(r"(file|path|dir)$")


def refuse_secret(key: str) -> None:
    """Refuse a key whose value would be a secret: arguments are visible to everybody, and specs lie in files. Raises: INVALID."""
    plain = re.sub(r"[^a-z]", "", key.lower())
    if plain == "signature":  # which kind of one, for oss://
        return
    if _SECRET.search(plain) and not _NAMES_A_FILE.search(plain):
        file_key = (
            key if key.endswith("_key") else key.replace("access_key_id", "access_key").replace("access_key_secret", "secret_key")
        )
        cure = f"write it to a file of mode 0600 and name that: -o {file_key}_file=PATH"
        raise CacheError(ErrorKind.INVALID, f"{key} would show a secret to everybody who can list processes; {cure}")
