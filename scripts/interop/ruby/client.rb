# Uses sessiond from Ruby, with nothing but stubs generated from the .proto files.

require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "google/rpc/status_pb"
require "sessiond/v1/session_service_services_pb"

FAR_SECONDS = ENV.fetch("FAR_SECONDS").to_i

# region calls
SESSIONS = Sessiond::V1::SessionService::Stub.new(ENV.fetch("ADDRESS"), :this_channel_is_insecure)
METADATA = { "authorization" => "Bearer #{ENV.fetch("TOKEN")}" }

# What a call needs: the access token and a deadline.
def within(seconds, metadata = METADATA)
  { metadata: metadata, deadline: Time.now + seconds }
end

# The session that a token proves, or nil.
def verify(token, seconds = 2)
  request = Sessiond::V1::VerifySessionRequest.new(token: token)
  SESSIONS.verify_session(request, **within(seconds)).session
rescue GRPC::BadStatus => error
  raise unless detail_of(error, Google::Rpc::ErrorInfo)&.reason == "SESSION_NOT_FOUND"
end

# The error's detail of this type. An error that is not from sessiond has none.
def detail_of(error, type)
  details = error.to_rpc_status&.details.to_a
  details.find { |packed| packed.is(type) }&.unpack(type)
end
# endregion

def error_of
  yield
  raise "expected the call to fail"
rescue GRPC::BadStatus => error
  error
end

request = Sessiond::V1::WatchSessionsRequest.new(user_id: "ann")
watch = SESSIONS.watch_sessions(request, return_op: true, **within(FAR_SECONDS))
messages = watch.execute
messages.next # From the first message on, the watch misses nothing.

data = Google::Protobuf::Struct.from_hash({ "theme" => "light" })
request = Sessiond::V1::CreateSessionRequest.new(user_id: "ann", roles: ["editor"], data: data)
created = SESSIONS.create_session(request, **within(2))
puts "created #{created.session.user_id}"

session = verify(created.token)
puts "verified #{session.user_id} #{session.roles.first} #{session.data["theme"]}"

verify(created.token, FAR_SECONDS)
puts "verified with a far deadline"

request = Sessiond::V1::UpdateSessionRequest.new(
  session_id: session.id,
  session: Sessiond::V1::Session.new(display_name: "Ann"),
  update_mask: Google::Protobuf::FieldMask.new(paths: ["display_name"]),
  etag: session.etag
)
puts "updated #{SESSIONS.update_session(request, **within(2)).session.display_name}"

puts "wrong session token: SESSION_NOT_FOUND" if verify("sst_wrong").nil?

request = Sessiond::V1::CountSessionsRequest.new
error = error_of { SESSIONS.count_sessions(request, **within(2, {})) }
puts "no access token: #{detail_of(error, Google::Rpc::ErrorInfo).reason}"

request = Sessiond::V1::CreateSessionRequest.new
error = error_of { SESSIONS.create_session(request, **within(2)) }
puts "no user: #{detail_of(error, Google::Rpc::BadRequest).field_violations.first.field}"

request = Sessiond::V1::RevokeSessionRequest.new(token: created.token)
SESSIONS.revoke_session(request, **within(2))
types = []
until types.include?(:SESSION_EVENT_TYPE_REVOKED)
  types += messages.next.events&.events.to_a.map(&:type)
end
puts "watched #{types.join(" ")}"

watch.cancel
error = error_of { loop { messages.next } }
puts "ended the watch: code #{error.code}"
