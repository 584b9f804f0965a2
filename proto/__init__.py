"""Stubs of the CSI specification and of kubelet's registration, made by generate.sh; imported as csi.stubs."""
