"""`python -m fusecache.serve FD`: one serve process; FD is its end of the control channel."""

from fusecache.serve.process import main

main()
