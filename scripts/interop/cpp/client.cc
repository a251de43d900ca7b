// Uses sessiond from C++, with nothing but stubs generated from the .proto files.

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>

#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "sessiond/v1/session_service.grpc.pb.h"

using namespace sessiond::v1;

const std::chrono::seconds kFar{std::atoi(std::getenv("FAR_SECONDS"))};

// region calls
const auto channel = grpc::CreateChannel(std::getenv("ADDRESS"), grpc::InsecureChannelCredentials());
const auto sessions = SessionService::NewStub(channel);

// What one call needs: the access token and a deadline.
struct Call : grpc::ClientContext {
  explicit Call(std::chrono::seconds timeout = std::chrono::seconds(2)) {
    AddMetadata("authorization", std::string("Bearer ") + std::getenv("TOKEN"));
    set_deadline(std::chrono::system_clock::now() + timeout);
  }
};

// The error's detail of this type. An error that is not from sessiond has none.
template <typename Detail>
Detail DetailOf(const grpc::Status& error) {
  google::rpc::Status status;
  status.ParseFromString(error.error_details());
  Detail detail;
  for (const auto& packed : status.details()) {
    if (packed.UnpackTo(&detail)) break;
  }
  return detail;
}

void Check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error_message());
}

// The session that a token proves, if any.
std::optional<Session> Verify(const std::string& token,
                              std::chrono::seconds timeout = std::chrono::seconds(2)) {
  VerifySessionRequest request;
  request.set_token(token);
  VerifySessionResponse response;
  Call call(timeout);
  const auto status = sessions->VerifySession(&call, request, &response);
  if (DetailOf<google::rpc::ErrorInfo>(status).reason() == "SESSION_NOT_FOUND") return {};
  Check(status);
  return response.session();
}
// endregion

// Creates, verifies, updates and revokes a session.
void UseSession() {
  CreateSessionRequest create;
  create.set_user_id("ann");
  create.add_roles("editor");
  (*create.mutable_data()->mutable_fields())["theme"].set_string_value("light");
  CreateSessionResponse created;
  Call create_call;
  Check(sessions->CreateSession(&create_call, create, &created));
  std::cout << "created " << created.session().user_id() << "\n";

  const Session session = Verify(created.token()).value();
  std::cout << "verified " << session.user_id() << " " << session.roles(0) << " "
            << session.data().fields().at("theme").string_value() << "\n";

  Verify(created.token(), kFar).value();
  std::cout << "verified with a far deadline\n";

  UpdateSessionRequest update;
  update.set_session_id(session.id());
  update.mutable_session()->set_display_name("Ann");
  update.mutable_update_mask()->add_paths("display_name");
  update.set_etag(session.etag());
  UpdateSessionResponse updated;
  Call update_call;
  Check(sessions->UpdateSession(&update_call, update, &updated));
  std::cout << "updated " << updated.session().display_name() << "\n";

  RevokeSessionRequest revoke;
  revoke.set_token(created.token());
  RevokeSessionResponse revoked;
  Call revoke_call;
  Check(sessions->RevokeSession(&revoke_call, revoke, &revoked));
}

// Prints what the details of errors say.
void ReadErrors() {
  if (!Verify("sst_wrong")) std::cout << "wrong session token: SESSION_NOT_FOUND\n";

  CountSessionsResponse count;
  grpc::ClientContext nobody;
  auto error = sessions->CountSessions(&nobody, {}, &count);
  std::cout << "no access token: " << DetailOf<google::rpc::ErrorInfo>(error).reason() << "\n";

  CreateSessionResponse created;
  Call call;
  error = sessions->CreateSession(&call, {}, &created);
  const auto bad_request = DetailOf<google::rpc::BadRequest>(error);
  std::cout << "no user: " << bad_request.field_violations(0).field() << "\n";
}

// Prints the events up to the revocation.
void ReadEvents(grpc::ClientReader<WatchSessionsResponse>& watch) {
  std::cout << "watched";
  SessionEventType last = SESSION_EVENT_TYPE_UNSPECIFIED;
  WatchSessionsResponse message;
  while (last != SESSION_EVENT_TYPE_REVOKED && watch.Read(&message)) {
    for (const auto& event : message.events().events()) {
      last = event.type();
      std::cout << " " << SessionEventType_Name(last);
    }
  }
  std::cout << "\n";
}

int main() {
  WatchSessionsRequest request;
  request.set_user_id("ann");
  Call call(kFar);
  auto watch = sessions->WatchSessions(&call, request);
  WatchSessionsResponse message;
  watch->Read(&message);  // From the first message on, the watch misses nothing.

  UseSession();
  ReadErrors();
  ReadEvents(*watch);

  call.TryCancel();
  while (watch->Read(&message)) continue;
  std::cout << "ended the watch: code " << watch->Finish().error_code() << "\n";
}
