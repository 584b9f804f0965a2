"""`python -m fusecache.cli`: the command line where the console script is not installed."""

from __future__ import annotations

from fusecache.cli.main import main

main()
