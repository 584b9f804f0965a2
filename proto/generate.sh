#!/bin/bash
# Makes the stubs anew from the .proto files beside this script, which are those of the CSI specification (v1.13.0) and of
# Kubernetes (k8s.io/kubelet v0.34.4, pluginregistration/v1), as published. They are imported as csi.stubs, which leads here.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
for name in csi pluginregistration; do
    "$python" -m grpc_tools.protoc -Icsi/stubs=proto --python_out=. --pyi_out=. --grpc_python_out=. "csi/stubs/$name.proto"
done
