"""`python in_cgroup.py DIRECTORY COMMAND...`: become a command inside a cgroup. The standard library only."""

from __future__ import annotations

import os
import sys

with open(os.path.join(sys.argv[1], "cgroup.procs"), "w") as file:
    file.write(str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
