"""The CSI driver csi.fusecache.io: identity, controller and node services, and what they need on a node."""

DRIVER_NAME = "csi.fusecache.io"
VERSION = "0.1.0"
