"""The CSI driver csi.fusecache.io: identity, controller and node services, and what they need on a node."""

from fusecache import __version__

DRIVER_NAME = "csi.fusecache.io"
VERSION = __version__
