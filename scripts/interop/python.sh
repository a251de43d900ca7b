#!/usr/bin/env bash
# Generates Python stubs from the .proto files alone, and runs python_client.py
# with them against a server of its own. Needs, on Debian or Ubuntu:
#   apt-get install python3-grpcio python3-protobuf protobuf-compiler protobuf-compiler-grpc
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT

mapfile -t protos < <(find proto -name '*.proto')
protoc --proto_path=proto --python_out="$work" --grpc_python_out="$work" \
  --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)" "${protos[@]}"
# The stubs of google.rpc join the installed package google.
cat > "$work/google/__init__.py" <<'PY'
__path__ = __import__("pkgutil").extend_path(__path__, __name__)
PY

node=node_modules/.bin/node
export SESSIOND_DATA_DIR="$work/data"
"$node" apps/server/dist/main.js serve --store sqlite::memory: \
  --grpc-address 127.0.0.1:0 --http-address 127.0.0.1:0 > "$work/log" &
server=$!
address=
for _ in $(seq 100); do
  address=$(sed -n 's/.*"grpc_address":"\([^"]*\)".*/\1/p' "$work/log")
  [ -z "$address" ] || break
  sleep 0.1
done

TOKEN=$("$node" apps/server/dist/main.js token \
  --permissions sessions:create,sessions:read,sessions:update,sessions:delete)
export TOKEN
PYTHONPATH="$work" /usr/bin/python3 scripts/interop/python_client.py "$address"
