"""Uses sessiond from Python, with nothing but stubs generated from the .proto files.

Usage: python_client.py ADDRESS, with the access token in TOKEN and the stubs on PYTHONPATH.
"""

import os
import sys

import grpc
from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2
from google.rpc import error_details_pb2, status_pb2
from sessiond.v1 import session_pb2
from sessiond.v1 import session_service_pb2 as rpc
from sessiond.v1 import session_service_pb2_grpc

metadata = [("authorization", "Bearer " + os.environ["TOKEN"])]


def struct(**fields):
    data = struct_pb2.Struct()
    data.update(fields)
    return data


def reason_of(call):
    """Calls, expects a failure, and answers its code and the reason in its details."""
    try:
        call()
    except grpc.RpcError as error:
        status = status_pb2.Status()
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                status.ParseFromString(value)
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info), status
        assert info.domain == "sessiond", info
        return error.code(), info.reason
    raise AssertionError("the call did not fail")


def main(address):
    service = session_service_pb2_grpc.SessionServiceStub(grpc.insecure_channel(address))

    created = service.CreateSession(
        rpc.CreateSessionRequest(
            user_id="ann",
            roles=["admin"],
            data=struct(theme="light", count=1),
            idle_timeout=duration_pb2.Duration(seconds=900),
        ),
        metadata=metadata,
    )
    print("created ", created.session.id, created.token[:8] + "...")

    verify = lambda: service.VerifySession(
        rpc.VerifySessionRequest(token=created.token), metadata=metadata
    )
    verified = verify().session
    assert verified == created.session, verified
    print("verified", verified.user_id, list(verified.roles), dict(verified.data))

    updated = service.UpdateSession(
        rpc.UpdateSessionRequest(
            session_id=created.session.id,
            session=session_pb2.Session(data=struct(theme="dark")),
            update_mask=field_mask_pb2.FieldMask(paths=["data.theme"]),
            etag=created.session.etag,
        ),
        metadata=metadata,
    ).session
    assert dict(updated.data) == {"theme": "dark", "count": 1}, updated
    print("updated ", dict(updated.data))

    listed = service.ListSessions(rpc.ListSessionsRequest(user_id="ann"), metadata=metadata)
    assert [session.id for session in listed.sessions] == [created.session.id], listed
    print("listed  ", len(listed.sessions))

    revoke = lambda: service.RevokeSession(
        rpc.RevokeSessionRequest(token=created.token), metadata=metadata
    ).revoked
    assert revoke() is True
    assert revoke() is False
    print("revoked ")

    assert reason_of(verify) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    print("refused  SESSION_NOT_FOUND")

    nobody = lambda: service.CountSessions(rpc.CountSessionsRequest())
    assert reason_of(nobody) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    print("refused  UNAUTHENTICATED")


main(sys.argv[1])
