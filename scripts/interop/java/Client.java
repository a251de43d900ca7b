import static java.util.concurrent.TimeUnit.SECONDS;

import com.google.protobuf.Any;
import com.google.protobuf.FieldMask;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.Struct;
import com.google.protobuf.Value;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.Iterator;
import java.util.List;
import java.util.Optional;
import sessiond.v1.CountSessionsRequest;
import sessiond.v1.CreateSessionRequest;
import sessiond.v1.CreateSessionResponse;
import sessiond.v1.RevokeSessionRequest;
import sessiond.v1.Session;
import sessiond.v1.SessionEvent;
import sessiond.v1.SessionEventType;
import sessiond.v1.SessionServiceGrpc;
import sessiond.v1.SessionServiceGrpc.SessionServiceBlockingStub;
import sessiond.v1.UpdateSessionRequest;
import sessiond.v1.VerifySessionRequest;
import sessiond.v1.WatchSessionsRequest;
import sessiond.v1.WatchSessionsResponse;

/** Uses sessiond from Java, with nothing but stubs generated from the .proto files. */
final class Client {
  private static final int SOON_SECONDS = 2;
  private static final int FAR_SECONDS = Integer.parseInt(System.getenv("FAR_SECONDS"));

  // region calls
  private static final ManagedChannel CHANNEL =
      ManagedChannelBuilder.forTarget(System.getenv("ADDRESS")).usePlaintext().build();
  private static final SessionServiceBlockingStub SESSIONS =
      SessionServiceGrpc.newBlockingStub(CHANNEL)
          .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(authorization()));

  private static Metadata authorization() {
    Metadata metadata = new Metadata();
    Metadata.Key<String> key = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    metadata.put(key, "Bearer " + System.getenv("TOKEN"));
    return metadata;
  }

  /** The session that a token proves, if any. */
  private static Optional<Session> verify(String token, int timeoutSeconds) throws Exception {
    VerifySessionRequest request = VerifySessionRequest.newBuilder().setToken(token).build();
    try {
      SessionServiceBlockingStub sessions = SESSIONS.withDeadlineAfter(timeoutSeconds, SECONDS);
      return Optional.of(sessions.verifySession(request).getSession());
    } catch (StatusRuntimeException error) {
      ErrorInfo info = detailOf(error, ErrorInfo.getDefaultInstance());
      if (info.getReason().equals("SESSION_NOT_FOUND")) return Optional.empty();
      throw error;
    }
  }

  /** The error's detail of this type. An error that is not from sessiond has none. */
  private static <T extends Message> T detailOf(StatusRuntimeException error, T none)
      throws InvalidProtocolBufferException {
    Status status = StatusProto.fromThrowable(error);
    for (Any packed : status == null ? List.<Any>of() : status.getDetailsList()) {
      if (packed.is(none.getClass())) return (T) packed.unpack(none.getClass());
    }
    return none;
  }
  // endregion

  public static void main(String[] args) throws Exception {
    Context.CancellableContext context = Context.current().withCancellation();
    WatchSessionsRequest request = WatchSessionsRequest.newBuilder().setUserId("ann").build();
    Iterator<WatchSessionsResponse> watch =
        context.call(() -> SESSIONS.withDeadlineAfter(FAR_SECONDS, SECONDS).watchSessions(request));
    watch.next(); // From the first message on, the watch misses nothing.

    useSession();
    readErrors();
    readEvents(watch);

    context.cancel(null);
    StatusRuntimeException error = errorOf(() -> watch.forEachRemaining(message -> {}));
    System.out.println("ended the watch: code " + error.getStatus().getCode().value());
    CHANNEL.shutdownNow();
  }

  /** Creates, verifies, updates and revokes a session. */
  private static void useSession() throws Exception {
    SessionServiceBlockingStub sessions = SESSIONS.withDeadlineAfter(SOON_SECONDS, SECONDS);
    Value light = Value.newBuilder().setStringValue("light").build();
    CreateSessionRequest create =
        CreateSessionRequest.newBuilder()
            .setUserId("ann")
            .addRoles("editor")
            .setData(Struct.newBuilder().putFields("theme", light))
            .build();
    CreateSessionResponse created = sessions.createSession(create);
    System.out.println("created " + created.getSession().getUserId());

    Session session = verify(created.getToken(), SOON_SECONDS).get();
    String theme = session.getData().getFieldsOrThrow("theme").getStringValue();
    System.out.println("verified " + session.getUserId() + " " + session.getRoles(0) + " " + theme);

    verify(created.getToken(), FAR_SECONDS).get();
    System.out.println("verified with a far deadline");

    UpdateSessionRequest update =
        UpdateSessionRequest.newBuilder()
            .setSessionId(session.getId())
            .setSession(Session.newBuilder().setDisplayName("Ann"))
            .setUpdateMask(FieldMask.newBuilder().addPaths("display_name"))
            .setEtag(session.getEtag())
            .build();
    System.out.println("updated " + sessions.updateSession(update).getSession().getDisplayName());

    sessions.revokeSession(RevokeSessionRequest.newBuilder().setToken(created.getToken()).build());
  }

  /** Prints what the details of errors say. */
  private static void readErrors() throws Exception {
    if (verify("sst_wrong", SOON_SECONDS).isEmpty()) {
      System.out.println("wrong session token: SESSION_NOT_FOUND");
    }

    SessionServiceBlockingStub nobody = SessionServiceGrpc.newBlockingStub(CHANNEL);
    StatusRuntimeException error =
        errorOf(() -> nobody.countSessions(CountSessionsRequest.getDefaultInstance()));
    ErrorInfo info = detailOf(error, ErrorInfo.getDefaultInstance());
    System.out.println("no access token: " + info.getReason());

    error = errorOf(() -> SESSIONS.createSession(CreateSessionRequest.getDefaultInstance()));
    BadRequest badRequest = detailOf(error, BadRequest.getDefaultInstance());
    System.out.println("no user: " + badRequest.getFieldViolations(0).getField());
  }

  /** Prints the events up to the revocation. */
  private static void readEvents(Iterator<WatchSessionsResponse> watch) {
    System.out.print("watched");
    SessionEventType last = SessionEventType.SESSION_EVENT_TYPE_UNSPECIFIED;
    while (last != SessionEventType.SESSION_EVENT_TYPE_REVOKED) {
      for (SessionEvent event : watch.next().getEvents().getEventsList()) {
        last = event.getType();
        System.out.print(" " + last);
      }
    }
    System.out.println();
  }

  private static StatusRuntimeException errorOf(Runnable call) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      return error;
    }
    throw new AssertionError("expected the call to fail");
  }
}
