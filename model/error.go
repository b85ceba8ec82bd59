package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Kind names one way a request can fail. A Kind is itself an error, so a
// package returns it as it is or wraps it with %w, and callers test with
// errors.Is. Only the HTTP and gRPC edges turn kinds into numbers and texts,
// through [Describe].
type Kind int

// The kinds, grouped as in the table below.
const (
	ErrInternal Kind = iota

	ErrInvalidJSON
	ErrInvalidCursor
	ErrInvalidText

	ErrAppMissingName
	ErrAppNameTooLong
	ErrAppInvalidName
	ErrAppIDProvided
	ErrAppIDMismatch
	ErrAppInvalidShape
	ErrAppInvalidSyslogURL
	ErrAppNameImmutable
	ErrAppAlreadyExists
	ErrAppNotFound
	ErrAppMissingID

	ErrFnIDProvided
	ErrFnIDMismatch
	ErrFnMissingAppID
	ErrFnMissingName
	ErrFnNameTooLong
	ErrFnInvalidName
	ErrFnMissingImage
	ErrFnImageTooLong
	ErrFnTimeout
	ErrFnIdleTimeout
	ErrFnMemory
	ErrFnAlreadyExists
	ErrFnNotFound
	ErrFnMissingID

	ErrTriggerIDProvided
	ErrTriggerIDMismatch
	ErrTriggerCreatedAtProvided
	ErrTriggerUpdatedAtProvided
	ErrTriggerMissingName
	ErrTriggerNameTooLong
	ErrTriggerInvalidName
	ErrTriggerMissingAppID
	ErrTriggerMissingFnID
	ErrTriggerFnOfOtherApp
	ErrTriggerType
	ErrTriggerMissingSource
	ErrTriggerSourcePrefix
	ErrTriggerSourceTooLong
	ErrTriggerAlreadyExists
	ErrTriggerSourceExists
	ErrTriggerNotFound
	ErrTriggerMissingID

	ErrAnnotationKey
	ErrAnnotationKeyTooLong
	ErrAnnotationValue
	ErrAnnotationValueTooLong
	ErrAnnotationTooMany

	ErrPathNotFound
	ErrMethodNotAllowed
	ErrContentLengthTooLarge
	ErrRequestTooLarge
	ErrRequestTimeout

	ErrTooBigForNode
	ErrServerBusy
	ErrCallTimeout
	ErrFunctionFailed
	ErrFunctionResponse
	ErrFunctionInvalidResponse
	ErrFunctionResponseTooBig
	ErrFunctionHeaderTooBig
	ErrContainerInitFailed
	ErrContainerInitTimeout
	ErrImagePullTimeout
	ErrImagePullFailed
	ErrImageVolume
	ErrClientCanceled

	ErrFunctionPrematureWrite
	ErrFunctionClosedPipe
	ErrDetachedUnsupported
	ErrReservation
	ErrInvalidImage
	ErrRemote
	ErrRemoteFunction

	kindCount
)

// StatusClientClosedRequest is recorded for a caller that left before its
// answer was ready. It never travels over a wire.
const StatusClientClosedRequest = 444

// Limits of the definitions, in bytes where they measure text.
const (
	MaxNameBytes            = 255
	MaxImageBytes           = 256
	MaxSourceBytes          = 256
	MaxAnnotationKeyBytes   = 128
	MaxAnnotationValueBytes = 512
	MaxAnnotations          = 100
)

type kindRow struct {
	status int
	text   string
	user   bool // the function is at fault, not the platform
}

// kinds is the one table from kind to what a client sees. Fn clients match on
// these texts and numbers, so a row changes only together with its test.
var kinds = [kindCount]kindRow{
	ErrInternal: {500, "internal server error", false},

	ErrInvalidJSON:   {400, "Invalid JSON", false},
	ErrInvalidCursor: {400, "Invalid cursor, use the next_cursor of the previous page unchanged", false},
	ErrInvalidText:   {400, "Invalid text, control characters are not allowed here", false},

	ErrAppMissingName:      {400, "Missing Name", false},
	ErrAppNameTooLong:      {400, "App name must be 255 characters or less", false},
	ErrAppInvalidName:      {400, "Invalid app name", false},
	ErrAppIDProvided:       {400, "App ID cannot be supplied on create", false},
	ErrAppIDMismatch:       {400, "App ID in path does not match ID in body", false},
	ErrAppInvalidShape:     {400, "Invalid app shape", false},
	ErrAppInvalidSyslogURL: {400, "invalid syslog url", false},
	ErrAppNameImmutable:    {409, "Could not update - name is immutable", false},
	ErrAppAlreadyExists:    {409, "App already exists", false},
	ErrAppNotFound:         {404, "App not found", false},
	ErrAppMissingID:        {400, "Missing app ID", false},

	ErrFnIDProvided:    {400, "ID cannot be provided for Fn creation", false},
	ErrFnIDMismatch:    {400, "Fn ID in path does not match that in body", false},
	ErrFnMissingAppID:  {400, "Missing AppID on Fn", false},
	ErrFnMissingName:   {400, "Missing Fn name", false},
	ErrFnNameTooLong:   {400, "Fn name must be 255 characters or less", false},
	ErrFnInvalidName:   {400, "name must be a valid string", false},
	ErrFnMissingImage:  {400, "Missing image on Fn", false},
	ErrFnImageTooLong:  {400, "Fn image must be 256 characters or less", false},
	ErrFnTimeout:       {400, "timeout value is out of range, must be between 0 and 300", false},
	ErrFnIdleTimeout:   {400, "idle_timeout value is out of range, must be between 0 and 3600", false},
	ErrFnMemory:        {400, "memory value is out of range. It should be between 0 and 8192", false},
	ErrFnAlreadyExists: {409, "Fn with specified name already exists", false},
	ErrFnNotFound:      {404, "Fn not found", false},
	ErrFnMissingID:     {400, "Missing Fn ID", false},

	ErrTriggerIDProvided:        {400, "ID cannot be provided for Trigger creation", false},
	ErrTriggerIDMismatch:        {400, "ID in path does not match ID in body", false},
	ErrTriggerCreatedAtProvided: {400, "Trigger Created At Provided for Create", false},
	// The text speaks of the ID although updated_at was given: clients know it so.
	ErrTriggerUpdatedAtProvided: {400, "Trigger ID Provided for Create", false},
	ErrTriggerMissingName:       {400, "Missing name on Trigger", false},
	ErrTriggerNameTooLong:       {400, "Trigger name must be 255 characters or less", false},
	ErrTriggerInvalidName:       {400, "Invalid name for Trigger", false},
	ErrTriggerMissingAppID:      {400, "Missing App ID on Trigger", false},
	ErrTriggerMissingFnID:       {400, "Missing Fn ID on Trigger", false},
	ErrTriggerFnOfOtherApp:      {400, "Invalid Fn ID - not owned by specified app", false},
	ErrTriggerType:              {400, "Trigger Type Not Supported", false},
	ErrTriggerMissingSource:     {400, "Missing Trigger Source", false},
	ErrTriggerSourcePrefix:      {400, "Missing Trigger Source Prefix '/'", false},
	ErrTriggerSourceTooLong:     {400, "Trigger source must be 256 characters or less", false},
	ErrTriggerAlreadyExists:     {409, "Trigger already exists", false},
	ErrTriggerSourceExists:      {409, "Trigger with the same type and source exists on this app", false},
	ErrTriggerNotFound:          {404, "Trigger not found", false},
	ErrTriggerMissingID:         {400, "Missing ID", false},

	ErrAnnotationKey:          {400, "Invalid annotation key, annotation keys must be non-empty ascii strings excluding whitespace", false},
	ErrAnnotationKeyTooLong:   {400, "Invalid annotation key length, annotation keys may not be larger than 128 bytes", false},
	ErrAnnotationValue:        {400, "Invalid annotation value, annotation values may only be non-empty strings, numbers, objects, or arrays", false},
	ErrAnnotationValueTooLong: {400, "Invalid annotation value length, annotation values may not be larger than 512 bytes when serialized as JSON", false},
	ErrAnnotationTooMany:      {400, "Invalid annotation change, new key(s) exceed maximum permitted number of annotations keys (100)", false},

	ErrPathNotFound:          {404, "Path not found", false},
	ErrMethodNotAllowed:      {405, "Method not allowed", false},
	ErrContentLengthTooLarge: {413, "Content-Length too large for this server", false},
	ErrRequestTooLarge:       {413, "Request content too large", true},
	ErrRequestTimeout:        {408, "Timed out reading the request body", false},

	ErrTooBigForNode:           {400, "Requested CPU/Memory cannot be allocated", false},
	ErrServerBusy:              {503, "Timed out - server too busy", false},
	ErrCallTimeout:             {504, "Timed out", true},
	ErrFunctionFailed:          {502, "function failed", true},
	ErrFunctionResponse:        {502, "error receiving function response", true},
	ErrFunctionInvalidResponse: {502, "invalid function response", true},
	ErrFunctionResponseTooBig:  {502, "function response body too large", true},
	ErrFunctionHeaderTooBig:    {502, "function response header too large", true},
	ErrContainerInitFailed:     {502, "Container failed to initialize, please ensure you are using the latest fdk and check the logs", true},
	ErrContainerInitTimeout:    {504, "Container initialization timed out, please ensure you are using the latest fdk and check the logs", true},
	ErrImagePullTimeout:        {504, "Image pull timed out", true},
	ErrImagePullFailed:         {502, "Failed to pull image", true},
	ErrImageVolume:             {400, "image has Volume definition", false},
	ErrClientCanceled:          {StatusClientClosedRequest, "Client cancelled context", false},

	ErrFunctionPrematureWrite: {502, "function invoked write before receiving entire request", true},
	ErrFunctionClosedPipe:     {502, "function closed pipe while receiving request", true},
	ErrDetachedUnsupported:    {501, "Detach call functions are not supported on this server", false},
	ErrReservation:            {500, "Unable to service the request for the reservation period", false},
	ErrInvalidImage:           {400, "Invalid Fn image", false},
	// What another node told, with a status and a text that are in no row here.
	ErrRemote:         {500, "internal server error", false},
	ErrRemoteFunction: {502, "function failed", true},
}

func (k Kind) known() bool { return k >= 0 && k < kindCount }

// Error returns the text a client sees for k.
func (k Kind) Error() string {
	if !k.known() {
		return fmt.Sprintf("unknown error kind %d", int(k))
	}
	return kinds[k].text
}

// Error is a failure whose text or status depends on the case at hand, such as
// a path that does not exist or an engine's own answer to an image pull.
type Error struct {
	Kind    Kind
	Message string // replaces the kind's text
	Status  int    // replaces the kind's status; 0 keeps it
	Cause   error  // for logs; never shown to a client
}

// Errorf returns an [Error] of the given kind with its own text.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Is makes errors.Is(err, kind) true for an Error of that kind.
func (e *Error) Is(target error) bool { return target == error(e.Kind) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Description is what a client may see of an error.
type Description struct {
	Kind   Kind
	Status int    // HTTP status
	Text   string // the "message" of the JSON error body
	User   bool   // the function is at fault, not the platform
}

// LogLevel is how loudly the log of a node that executes or places calls tells of one
// that failed so. Of busy servers the edge tells, not each time.
func (d Description) LogLevel() slog.Level {
	switch {
	case d.Kind == ErrClientCanceled, d.Kind == ErrServerBusy:
		return slog.LevelDebug
	case d.IsServerFault():
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// Describe finds the first kind in err's chain. An error without one is an
// internal error: its text stays in the log. A cancelled context means that
// the client left.
func Describe(err error) Description {
	if e, ok := errors.AsType[*Error](err); ok {
		if e.Kind <= ErrInternal || e.Kind >= kindCount {
			return describeKind(ErrInternal)
		}
		d := describeKind(e.Kind)
		d.Text = e.Message
		if e.Status != 0 {
			d.Status = e.Status
		}
		return d
	}
	if k, ok := errors.AsType[Kind](err); ok && k.known() {
		return describeKind(k)
	}
	if errors.Is(err, context.Canceled) {
		return describeKind(ErrClientCanceled)
	}
	return describeKind(ErrInternal)
}

func describeKind(k Kind) Description {
	row := kinds[k]
	return Description{Kind: k, Status: row.status, Text: row.text, User: row.user}
}

// IsServerFault reports whether a status speaks of a platform failure, the
// kind an operator wants to see in the log.
func (d Description) IsServerFault() bool {
	return d.Status >= http.StatusInternalServerError && !d.User
}

// retryLater is an error with the time after which the cause may have passed.
type retryLater struct {
	error
	after time.Duration
}

func (e retryLater) Unwrap() error { return e.error }

// WithRetryAfter says of an error when a client should try again. A time of
// zero or less says nothing.
func WithRetryAfter(err error, after time.Duration) error {
	if after <= 0 {
		return err
	}
	return retryLater{err, after}
}

// RetryAfter returns what WithRetryAfter said, 0 if nothing.
func RetryAfter(err error) time.Duration {
	e, _ := errors.AsType[retryLater](err)
	return e.after
}
