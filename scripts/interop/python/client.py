"""Uses sessiond from Python, with nothing but stubs generated from the .proto files."""

import grpc
from calls import FAR_SECONDS, call, detail_of, error_of, event_types, reason_of, sessions, verify
from google.protobuf import field_mask_pb2, struct_pb2
from google.rpc import error_details_pb2
from sessiond.v1 import session_pb2
from sessiond.v1 import session_service_pb2 as rpc

watch = call(sessions.WatchSessions, rpc.WatchSessionsRequest(user_id="ann"), FAR_SECONDS)
next(watch)  # From the first message on, the watch misses nothing.

data = struct_pb2.Struct()
data["theme"] = "light"
request = rpc.CreateSessionRequest(user_id="ann", roles=["editor"], data=data)
created = call(sessions.CreateSession, request)
print("created", created.session.user_id)

session = verify(created.token)
print("verified", session.user_id, session.roles[0], session.data["theme"])

verify(created.token, FAR_SECONDS)
print("verified with a far deadline")

request = rpc.UpdateSessionRequest(
    session_id=session.id,
    session=session_pb2.Session(display_name="Ann"),
    update_mask=field_mask_pb2.FieldMask(paths=["display_name"]),
    etag=session.etag,
)
print("updated", call(sessions.UpdateSession, request).session.display_name)

if verify("sst_wrong") is None:
    print("wrong session token: SESSION_NOT_FOUND")

error = error_of(sessions.CountSessions, rpc.CountSessionsRequest(), metadata=[])
print("no access token:", reason_of(error))

error = error_of(sessions.CreateSession, rpc.CreateSessionRequest())
print("no user:", detail_of(error, error_details_pb2.BadRequest()).field_violations[0].field)

call(sessions.RevokeSession, rpc.RevokeSessionRequest(token=created.token))
print("watched", *event_types(watch, last=rpc.SESSION_EVENT_TYPE_REVOKED))

watch.cancel()
try:
    while True:
        next(watch)
except grpc.RpcError as error:
    print("ended the watch: code", error.code().value[0])
