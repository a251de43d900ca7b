"""What a client adds to the stubs: the access token, a deadline, and an error's details."""

# region calls
import os

import grpc
from google.rpc import error_details_pb2, status_pb2
from sessiond.v1 import session_service_pb2 as rpc
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub

sessions = SessionServiceStub(grpc.insecure_channel(os.environ["ADDRESS"]))
metadata = [("authorization", "Bearer " + os.environ["TOKEN"])]


def call(method, request, timeout=2):
    return method(request, metadata=metadata, timeout=timeout)


def detail_of(error, detail):
    """Fills in the error's detail of this type. An error that is not from sessiond has none."""
    status = status_pb2.Status()
    status.ParseFromString(dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b""))
    for packed in status.details:
        packed.Unpack(detail)
    return detail


def reason_of(error):
    return detail_of(error, error_details_pb2.ErrorInfo()).reason


def verify(token, timeout=2):
    """The session that a token proves, or None."""
    try:
        return call(sessions.VerifySession, rpc.VerifySessionRequest(token=token), timeout).session
    except grpc.RpcError as error:
        if reason_of(error) == "SESSION_NOT_FOUND":
            return None
        raise
# endregion


FAR_SECONDS = int(os.environ["FAR_SECONDS"])


def error_of(method, request, metadata=metadata):
    try:
        method(request, metadata=metadata, timeout=2)
    except grpc.RpcError as error:
        return error
    raise AssertionError("expected the call to fail")


def event_types(watch, last):
    """The types of the events up to the first one of type `last`."""
    types = []
    while last not in types:
        types += [event.type for event in next(watch).events.events]
    return [rpc.SessionEventType.Name(type) for type in types]
