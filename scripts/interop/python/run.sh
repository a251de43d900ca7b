#!/usr/bin/env bash
# Clients in Python. run.ts runs this in an empty folder that has the .proto files in `proto`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# region generate
# apt-get install python3-grpcio protobuf-compiler protobuf-compiler-grpc
mkdir gen
protoc --proto_path=proto --python_out=gen --grpc_python_out=gen \
  --plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin \
  proto/sessiond/v1/*.proto proto/google/rpc/*.proto
# endregion

# Debian's, which has Debian's packages, and not another one on the PATH.
export PYTHONPATH=gen PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 "$here/client.py"
/usr/bin/python3 "$here/fields.py"
/usr/bin/python3 "$here/secure.py"
