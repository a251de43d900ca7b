#!/usr/bin/env bash
# A client in Java. run.ts runs this in an empty folder that has the .proto files in `proto`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# region generate
# apt-get install default-jdk-headless protobuf-compiler protobuf-compiler-grpc-java-plugin
# apt-get install libgrpc-java libprotobuf-java libguava-java libgoogle-gson-java libnetty-java
# apt-get install libperfmark-java libgeronimo-annotation-1.3-spec-java
mkdir gen
protoc --proto_path=proto --java_out=gen --grpc-java_out=gen \
  --plugin=protoc-gen-grpc-java=/usr/bin/grpc_java_plugin \
  proto/sessiond/v1/*.proto proto/google/rpc/*.proto
# endregion

jars=(grpc-{api,context,core,netty,protobuf,protobuf-lite,stub} protobuf guava gson perfmark-api
  netty-{buffer,codec,codec-http,codec-http2,common,handler,resolver,transport}
  geronimo-annotation-1.3-spec)
classpath=$(printf '/usr/share/java/%s.jar:' "${jars[@]}")classes
javac -nowarn -d classes -cp "$classpath" -sourcepath gen "$here/Client.java"
java -cp "$classpath" Client
