"""A real Kubernetes on one machine, for tests: every component as a plain process, three nodes, no image registry.

A *box* is a set of namespaces (process, mount, network, host name, IPC) with a root directory of its own: one for the control
plane, one for each node. In its box a kubelet uses the paths it would use anywhere (/var/lib/kubelet, /run/containerd), all of
them below the one directory of the cluster. Everything in a box dies with its first process, and mounts and interfaces with it.
The machine itself gets one network interface with routes, one cgroup, and the directory; `removal.py` takes them back.

`python -m tests.cluster_harness up|down|status|enter|import|restart`; `make cluster` and `make cluster-down` call it.
Who may import what: the modules below know nothing of pytest; `launch` and `root_file_system` run inside new namespaces, in an
interpreter without site-packages, and import the standard library only.
"""
