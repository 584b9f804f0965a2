"""Asks a directory what pjdfstest asks a file system: `python -m tests.support.pjdfstest JSON`, as root.

A port of that suite's published list of cases, under the names that its present version gives them (`call::case::kind of file`),
with the cases about permissions (EACCES, EPERM) of its older one. `misses` says what is not as POSIX says, and why; `document`
makes docs/posix.md of that.
"""
