"""Uses a sessiond that speaks TLS and asks for a client certificate."""

import os
from pathlib import Path

import grpc
from calls import metadata, rpc
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub


def pem(variable):
    return Path(os.environ[variable]).read_bytes()


def count(credentials):
    with grpc.secure_channel(os.environ["TLS_ADDRESS"], credentials) as channel:
        sessions = SessionServiceStub(channel)
        request = rpc.CountSessionsRequest()
        return sessions.CountSessions(request, metadata=metadata, timeout=2).count


print("over TLS with a certificate, sessions:", count(
    grpc.ssl_channel_credentials(
        root_certificates=pem("TLS_CA"),
        private_key=pem("TLS_CLIENT_KEY"),
        certificate_chain=pem("TLS_CLIENT_CERT"),
    )
))

try:
    count(grpc.ssl_channel_credentials(root_certificates=pem("TLS_CA")))
except grpc.RpcError as error:
    # UNAVAILABLE: the server did not finish the handshake.
    print("without one: code", error.code().value[0])
