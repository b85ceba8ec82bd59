package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
)

// errorTable is what Fn clients match on, written out: a change of a row in
// the code must be a change here too.
var errorTable = []struct {
	kind   Kind
	status int
	text   string
	user   bool
}{
	{ErrInternal, 500, "internal server error", false},
	{ErrInvalidJSON, 400, "Invalid JSON", false},
	{ErrInvalidCursor, 400, "Invalid cursor, use the next_cursor of the previous page unchanged", false},
	{ErrInvalidText, 400, "Invalid text, control characters are not allowed here", false},

	{ErrAppMissingName, 400, "Missing Name", false},
	{ErrAppNameTooLong, 400, "App name must be 255 characters or less", false},
	{ErrAppInvalidName, 400, "Invalid app name", false},
	{ErrAppIDProvided, 400, "App ID cannot be supplied on create", false},
	{ErrAppIDMismatch, 400, "App ID in path does not match ID in body", false},
	{ErrAppInvalidShape, 400, "Invalid app shape", false},
	{ErrAppInvalidSyslogURL, 400, "invalid syslog url", false},
	{ErrAppNameImmutable, 409, "Could not update - name is immutable", false},
	{ErrAppAlreadyExists, 409, "App already exists", false},
	{ErrAppNotFound, 404, "App not found", false},
	{ErrAppMissingID, 400, "Missing app ID", false},

	{ErrFnIDProvided, 400, "ID cannot be provided for Fn creation", false},
	{ErrFnIDMismatch, 400, "Fn ID in path does not match that in body", false},
	{ErrFnMissingAppID, 400, "Missing AppID on Fn", false},
	{ErrFnMissingName, 400, "Missing Fn name", false},
	{ErrFnNameTooLong, 400, "Fn name must be 255 characters or less", false},
	{ErrFnInvalidName, 400, "name must be a valid string", false},
	{ErrFnMissingImage, 400, "Missing image on Fn", false},
	{ErrFnImageTooLong, 400, "Fn image must be 256 characters or less", false},
	{ErrFnTimeout, 400, "timeout value is out of range, must be between 0 and 300", false},
	{ErrFnIdleTimeout, 400, "idle_timeout value is out of range, must be between 0 and 3600", false},
	{ErrFnMemory, 400, "memory value is out of range. It should be between 0 and 8192", false},
	{ErrFnAlreadyExists, 409, "Fn with specified name already exists", false},
	{ErrFnNotFound, 404, "Fn not found", false},
	{ErrFnMissingID, 400, "Missing Fn ID", false},

	{ErrTriggerIDProvided, 400, "ID cannot be provided for Trigger creation", false},
	{ErrTriggerIDMismatch, 400, "ID in path does not match ID in body", false},
	{ErrTriggerCreatedAtProvided, 400, "Trigger Created At Provided for Create", false},
	{ErrTriggerUpdatedAtProvided, 400, "Trigger ID Provided for Create", false},
	{ErrTriggerMissingName, 400, "Missing name on Trigger", false},
	{ErrTriggerNameTooLong, 400, "Trigger name must be 255 characters or less", false},
	{ErrTriggerInvalidName, 400, "Invalid name for Trigger", false},
	{ErrTriggerMissingAppID, 400, "Missing App ID on Trigger", false},
	{ErrTriggerMissingFnID, 400, "Missing Fn ID on Trigger", false},
	{ErrTriggerFnOfOtherApp, 400, "Invalid Fn ID - not owned by specified app", false},
	{ErrTriggerType, 400, "Trigger Type Not Supported", false},
	{ErrTriggerMissingSource, 400, "Missing Trigger Source", false},
	{ErrTriggerSourcePrefix, 400, "Missing Trigger Source Prefix '/'", false},
	{ErrTriggerSourceTooLong, 400, "Trigger source must be 256 characters or less", false},
	{ErrTriggerAlreadyExists, 409, "Trigger already exists", false},
	{ErrTriggerSourceExists, 409, "Trigger with the same type and source exists on this app", false},
	{ErrTriggerNotFound, 404, "Trigger not found", false},
	{ErrTriggerMissingID, 400, "Missing ID", false},

	{ErrAnnotationKey, 400, "Invalid annotation key, annotation keys must be non-empty ascii strings excluding whitespace", false},
	{ErrAnnotationKeyTooLong, 400, "Invalid annotation key length, annotation keys may not be larger than 128 bytes", false},
	{ErrAnnotationValue, 400, "Invalid annotation value, annotation values may only be non-empty strings, numbers, objects, or arrays", false},
	{ErrAnnotationValueTooLong, 400, "Invalid annotation value length, annotation values may not be larger than 512 bytes when serialized as JSON", false},
	{ErrAnnotationTooMany, 400, "Invalid annotation change, new key(s) exceed maximum permitted number of annotations keys (100)", false},

	{ErrPathNotFound, 404, "Path not found", false},
	{ErrMethodNotAllowed, 405, "Method not allowed", false},
	{ErrContentLengthTooLarge, 413, "Content-Length too large for this server", false},
	{ErrRequestTooLarge, 413, "Request content too large", true},
	{ErrRequestTimeout, 408, "Timed out reading the request body", false},

	{ErrTooBigForNode, 400, "Requested CPU/Memory cannot be allocated", false},
	{ErrServerBusy, 503, "Timed out - server too busy", false},
	{ErrCallTimeout, 504, "Timed out", true},
	{ErrFunctionFailed, 502, "function failed", true},
	{ErrFunctionResponse, 502, "error receiving function response", true},
	{ErrFunctionInvalidResponse, 502, "invalid function response", true},
	{ErrFunctionResponseTooBig, 502, "function response body too large", true},
	{ErrFunctionHeaderTooBig, 502, "function response header too large", true},
	{ErrContainerInitFailed, 502, "Container failed to initialize, please ensure you are using the latest fdk and check the logs", true},
	{ErrContainerInitTimeout, 504, "Container initialization timed out, please ensure you are using the latest fdk and check the logs", true},
	{ErrImagePullTimeout, 504, "Image pull timed out", true},
	{ErrImagePullFailed, 502, "Failed to pull image", true},
	{ErrImageVolume, 400, "image has Volume definition", false},
	{ErrClientCanceled, 444, "Client cancelled context", false},

	{ErrFunctionPrematureWrite, 502, "function invoked write before receiving entire request", true},
	{ErrFunctionClosedPipe, 502, "function closed pipe while receiving request", true},
	{ErrDetachedUnsupported, 501, "Detach call functions are not supported on this server", false},
	{ErrReservation, 500, "Unable to service the request for the reservation period", false},
	{ErrInvalidImage, 400, "Invalid Fn image", false},
	{ErrRemote, 500, "internal server error", false},
	{ErrRemoteFunction, 502, "function failed", true},
}

func TestErrorTable(t *testing.T) {
	seen := map[Kind]bool{}
	for _, row := range errorTable {
		seen[row.kind] = true
		want := Description{Kind: row.kind, Status: row.status, Text: row.text, User: row.user}
		if got := Describe(row.kind); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := row.kind.Error(); got != row.text {
			t.Errorf("got %q, want %q", got, row.text)
		}
	}
	for kind := range kindCount {
		if !seen[kind] {
			t.Errorf("kind %d, %q, is not in the table of this test", int(kind), kind)
		}
	}
}

func TestEveryKindCanTravel(t *testing.T) {
	for kind := range kindCount {
		if kind.Error() == "" || Describe(kind).Status < 400 || Describe(kind).Status > 599 {
			t.Errorf("kind %d: %+v", int(kind), Describe(kind))
		}
	}
}

func TestDescribeFindsTheKindInTheChain(t *testing.T) {
	secret := errors.New("password is secret")
	pull := &Error{Kind: ErrImagePullFailed, Message: "Failed to pull image 'x': denied", Status: 404, Cause: secret}
	notFound := Description{Kind: ErrFnNotFound, Status: 404, Text: "Fn not found"}
	internal := Description{Kind: ErrInternal, Status: 500, Text: "internal server error"}
	for _, test := range []struct {
		name string
		err  error
		want Description
	}{
		{"a kind", ErrFnNotFound, notFound},
		{"a wrapped kind", fmt.Errorf("update: %w", fmt.Errorf("read: %w", ErrFnNotFound)), notFound},
		{"a joined kind", errors.Join(secret, ErrFnNotFound), notFound},
		{"a kind with a cause beside it", fmt.Errorf("%w: %w", ErrFnNotFound, secret), notFound},
		{
			"an error with its own text and status", pull,
			Description{Kind: ErrImagePullFailed, Status: 404, Text: "Failed to pull image 'x': denied", User: true},
		},
		{
			"the same wrapped", fmt.Errorf("call: %w", pull),
			Description{Kind: ErrImagePullFailed, Status: 404, Text: "Failed to pull image 'x': denied", User: true},
		},
		{
			"an error with the status of its kind", Errorf(ErrPathNotFound, "Path not found: %s %s", "GET", "/x"),
			Description{Kind: ErrPathNotFound, Status: 404, Text: "Path not found: GET /x"},
		},
		{
			"an error around a kind", &Error{Kind: ErrServerBusy, Message: "busy", Cause: ErrFnNotFound},
			Description{Kind: ErrServerBusy, Status: 503, Text: "busy"},
		},
		{"something else", secret, internal},
		{"something else wrapped", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), internal},
		{"a kind over a cancelled context", fmt.Errorf("%w: %w", ErrFnNotFound, context.Canceled), notFound},
		{
			"a cancelled context", fmt.Errorf("read: %w", context.Canceled),
			Description{Kind: ErrClientCanceled, Status: 444, Text: "Client cancelled context"},
		},
		{"a deadline", context.DeadlineExceeded, internal},
		{"an unknown kind", Kind(10_000), internal},
		{"a negative kind", Kind(-1), internal},
		{"an error of an unknown kind", &Error{Kind: 10_000, Message: "secret"}, internal},
		{"an internal error with a text", &Error{Kind: ErrInternal, Message: "secret"}, internal},
	} {
		if got := Describe(test.err); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestErrorIsItsKindAndItsCause(t *testing.T) {
	cause := io.ErrUnexpectedEOF
	err := fmt.Errorf("call: %w", &Error{Kind: ErrImagePullFailed, Message: "Failed", Cause: cause})
	if !errors.Is(err, ErrImagePullFailed) || !errors.Is(err, cause) || errors.Is(err, ErrFnNotFound) {
		t.Errorf("%v is not what it is", err)
	}
	if got, want := err.Error(), "call: Failed: unexpected EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Errorf(ErrServerBusy, "%d of %d", 1, 2).Error(), "1 of 2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Kind(-1).Error(), "unknown error kind -1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServerFaults(t *testing.T) {
	for kind, want := range map[Kind]bool{
		ErrInternal: true, ErrServerBusy: true, ErrFunctionFailed: false, ErrFnNotFound: false, ErrClientCanceled: false,
	} {
		if got := Describe(kind).IsServerFault(); got != want {
			t.Errorf("%v: got %v", kind, got)
		}
	}
}
