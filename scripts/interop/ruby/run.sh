#!/usr/bin/env bash
# A client in Ruby. run.ts runs this in an empty folder that has the .proto files in `proto`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# region generate
# apt-get install ruby-grpc ruby-grpc-tools
mkdir gen
grpc_tools_ruby_protoc --proto_path=proto --ruby_out=gen --grpc_out=gen proto/sessiond/v1/*.proto
# endregion

# Debian's, which has Debian's packages, and not another one on the PATH.
/usr/bin/ruby -I gen "$here/client.rb"
