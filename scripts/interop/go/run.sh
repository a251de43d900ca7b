#!/usr/bin/env bash
# A client in Go. run.ts runs this in an empty folder that has the .proto files in `proto`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# region generate
# apt-get install golang-go golang-google-grpc-dev golang-github-golang-protobuf-1-5-dev
# apt-get install protobuf-compiler protoc-gen-go protoc-gen-go-grpc
mkdir gen
protoc --proto_path=proto --go_out=gen --go-grpc_out=gen proto/sessiond/v1/*.proto
# endregion

# Debian's libraries are no modules. Without modules, a module's path is a folder in GOPATH.
mkdir -p src/example.com
ln -s "$PWD" src/example.com/your-service
GO111MODULE=off GOPATH=$PWD:/usr/share/gocode go run "$here/client.go"
