// Uses sessiond from Go, with nothing but stubs generated from the .proto files.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	sessiondv1 "example.com/your-service/gen/sessiond/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
)

const soon = 2 * time.Second

var far, _ = time.ParseDuration(os.Getenv("FAR_SECONDS") + "s")

// region calls
var sessions = connect()

func connect() sessiondv1.SessionServiceClient {
	connection, err := grpc.Dial(os.Getenv("ADDRESS"), grpc.WithInsecure())
	check(err)
	return sessiondv1.NewSessionServiceClient(connection)
}

// callContext returns what a call needs: the access token and a deadline.
func callContext(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx := metadata.AppendToOutgoingContext(
		context.Background(), "authorization", "Bearer "+os.Getenv("TOKEN"))
	return context.WithTimeout(ctx, timeout)
}

// verify returns the session that a token proves, or nil.
func verify(token string, timeout time.Duration) (*sessiondv1.Session, error) {
	ctx, cancel := callContext(timeout)
	defer cancel()
	response, err := sessions.VerifySession(ctx, &sessiondv1.VerifySessionRequest{Token: token})
	if reasonOf(err) == "SESSION_NOT_FOUND" {
		return nil, nil
	}
	return response.GetSession(), err
}

// reasonOf returns an error's reason. An error that is not from sessiond has none.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

// endregion

func main() {
	ctx, endWatch := callContext(far)
	watch, err := sessions.WatchSessions(ctx, &sessiondv1.WatchSessionsRequest{UserId: "ann"})
	check(err)
	_, err = watch.Recv() // From the first message on, the watch misses nothing.
	check(err)

	useSession()
	readErrors()
	readEvents(watch)

	endWatch()
	for err == nil {
		_, err = watch.Recv()
	}
	fmt.Println("ended the watch: code", int(status.Code(err)))
}

// useSession creates, verifies, updates and revokes a session.
func useSession() {
	ctx, cancel := callContext(soon)
	defer cancel()
	data, err := structpb.NewStruct(map[string]interface{}{"theme": "light"})
	check(err)
	created, err := sessions.CreateSession(ctx, &sessiondv1.CreateSessionRequest{
		UserId: "ann", Roles: []string{"editor"}, Data: data,
	})
	check(err)
	fmt.Println("created", created.Session.UserId)

	session, err := verify(created.Token, soon)
	check(err)
	theme := session.Data.Fields["theme"].GetStringValue()
	fmt.Println("verified", session.UserId, session.Roles[0], theme)

	_, err = verify(created.Token, far)
	check(err)
	fmt.Println("verified with a far deadline")

	updated, err := sessions.UpdateSession(ctx, &sessiondv1.UpdateSessionRequest{
		SessionId:  session.Id,
		Session:    &sessiondv1.Session{DisplayName: "Ann"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
		Etag:       session.Etag,
	})
	check(err)
	fmt.Println("updated", updated.Session.DisplayName)

	_, err = sessions.RevokeSession(ctx, &sessiondv1.RevokeSessionRequest{
		Target: &sessiondv1.RevokeSessionRequest_Token{Token: created.Token},
	})
	check(err)
}

// readErrors prints what the details of errors say.
func readErrors() {
	session, err := verify("sst_wrong", soon)
	check(err)
	if session == nil {
		fmt.Println("wrong session token: SESSION_NOT_FOUND")
	}

	_, err = sessions.CountSessions(context.Background(), &sessiondv1.CountSessionsRequest{})
	fmt.Println("no access token:", reasonOf(err))

	ctx, cancel := callContext(soon)
	defer cancel()
	_, err = sessions.CreateSession(ctx, &sessiondv1.CreateSessionRequest{})
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			fmt.Println("no user:", request.FieldViolations[0].Field)
		}
	}
}

// readEvents prints the events up to the revocation.
func readEvents(watch sessiondv1.SessionService_WatchSessionsClient) {
	fmt.Print("watched")
	var last sessiondv1.SessionEventType
	for last != sessiondv1.SessionEventType_SESSION_EVENT_TYPE_REVOKED {
		message, err := watch.Recv()
		check(err)
		for _, event := range message.GetEvents().GetEvents() {
			last = event.Type
			fmt.Print(" ", last)
		}
	}
	fmt.Println()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
