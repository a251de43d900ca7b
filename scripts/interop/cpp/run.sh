#!/usr/bin/env bash
# A client in C++. run.ts runs this in an empty folder that has the .proto files in `proto`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# region generate
# apt-get install g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
mkdir gen
protoc --proto_path=proto --cpp_out=gen --grpc_out=gen \
  --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin \
  proto/sessiond/v1/*.proto proto/google/rpc/*.proto
# endregion

g++ -std=c++17 -o client -I gen "$here/client.cc" \
  gen/sessiond/v1/{permission,session,session_service}.pb.cc \
  gen/sessiond/v1/session_service.grpc.pb.cc \
  gen/google/rpc/{status,error_details}.pb.cc \
  $(pkg-config --cflags --libs grpc++ protobuf)
./client
