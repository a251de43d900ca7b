"""Tries fields in Python alone. Other languages have the same ones from the same files."""

import hashlib
import secrets
import uuid

from calls import FAR_SECONDS, call, error_of, event_types, reason_of, sessions, verify
from google.protobuf import duration_pb2, struct_pb2
from sessiond.v1 import session_pb2
from sessiond.v1 import session_service_pb2 as rpc

watch = call(sessions.WatchSessions, rpc.WatchSessionsRequest(user_id="bob"), FAR_SECONDS)
next(watch)

# The session of another system moves in, and the user keeps the credential of that system.
credential = secrets.token_urlsafe(24)
request = rpc.CreateSessionRequest(
    user_id="bob",
    token_hash=hashlib.sha256(credential.encode()).digest(),
    client=session_pb2.Client(ip="unknown", device="d" * 257),
)
moved = call(sessions.CreateSession, request)
print(f"moved in {verify(credential).user_id}, with a new token of {len(moved.token)} bytes")
print("notices", *sorted(notice.field for notice in moved.notices))

request = rpc.RotateSessionTokenRequest(
    token=credential, request_id=str(uuid.uuid4()), grace=duration_pb2.Duration(seconds=60)
)
rotated = call(sessions.RotateSessionToken, request)
retried = call(sessions.RotateSessionToken, request)
print("a retried rotation answers the same token:", rotated.token == retried.token)
print("the old token in its grace proves", verify(credential).user_id)

data = struct_pb2.Struct()
data.update({"lastSeen": "today", "cart.items": 2})
request = rpc.UpdateSessionRequest(session_id=moved.session.id, set_data=data)
call(sessions.UpdateSession, request)
request = rpc.UpdateSessionRequest(session_id=moved.session.id, delete_data=["lastSeen"])
print("data", dict(call(sessions.UpdateSession, request).session.data))

# Without a grace, all tokens before end at once.
call(sessions.RotateSessionToken, rpc.RotateSessionTokenRequest(token=rotated.token))
print("the old token after its grace proves", verify(credential))
print("watched", *event_types(watch, last=rpc.SESSION_EVENT_TYPE_TOKEN_REUSED))

call(sessions.CreateSession, rpc.CreateSessionRequest(user_id="bob"))
request = rpc.RevokeUserSessionsRequest(user_id="bob", except_session_id="not-bobs")
print("except a session that is not bob's:", reason_of(error_of(sessions.RevokeUserSessions, request)))
request = rpc.RevokeUserSessionsRequest(user_id="bob", except_session_id=moved.session.id)
print("except one of two, revoked", call(sessions.RevokeUserSessions, request).revoked_count)
