package docker

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
)

// This file finds out what a registry said. Engines pass that on as it is in
// some cases and hide it behind a 500, or a stream that began well, in others;
// then only the text is left.

// unreadRefusal is what engines say of a refusal that is not in the form of registries.
var unreadRefusal = regexp.MustCompile(`error parsing HTTP (4\d\d) response body`)

// pullStatus is the HTTP status of a refusal, 0 if none can be made out.
func pullStatus(err error) int {
	if reported, ok := errors.AsType[*jsonstream.Error](err); ok && reported.Code/100 == 4 {
		return reported.Code
	}
	switch {
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsUnauthorized(err):
		return http.StatusUnauthorized
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsResourceExhausted(err):
		return http.StatusTooManyRequests
	case errdefs.IsInvalidArgument(err):
		return http.StatusBadRequest
	}
	text := err.Error()
	if match := unreadRefusal.FindStringSubmatch(text); match != nil {
		status, _ := strconv.Atoi(match[1]) // three digits
		return status
	}
	for _, hint := range []struct {
		text   string
		status int
	}{
		{"pull access denied", http.StatusNotFound},
		{"manifest unknown", http.StatusNotFound},
		{"toomanyrequests", http.StatusTooManyRequests},
		{"429 Too Many Requests", http.StatusTooManyRequests},
		{"not found", http.StatusNotFound},
		{"unauthorized", http.StatusUnauthorized},
		{"no basic auth credentials", http.StatusUnauthorized},
		{"401 Unauthorized", http.StatusUnauthorized},
		{"requested access to the resource is denied", http.StatusForbidden},
		{"403 Forbidden", http.StatusForbidden},
	} {
		if strings.Contains(text, hint.text) {
			return hint.status
		}
	}
	return 0
}

// passingTexts are in what engines say of trouble that may be over soon.
var passingTexts = []string{
	"connection refused", "connection reset", "broken pipe", "EOF", "i/o timeout", "TLS handshake timeout",
	"timeout awaiting", "Client.Timeout", "deadline exceeded", "request canceled", "temporary failure in name resolution",
}

// serverTrouble is a status line of a registry, or what engines make of one, that
// asks for patience.
var serverTrouble = regexp.MustCompile(`\b(429|5\d\d) [A-Z][a-z]|HTTP (429|5\d\d)\b`)

// passing reports whether a pull failed for a reason that may be over soon.
func passing(err error) bool {
	status := pullStatus(err)
	if status != 0 {
		return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	if reported, ok := errors.AsType[*jsonstream.Error](err); ok && reported.Code > http.StatusInternalServerError {
		return true
	}
	text := err.Error()
	for _, hint := range passingTexts {
		if strings.Contains(text, hint) {
			return true
		}
	}
	return serverTrouble.MatchString(text)
}

// engineLost reports whether an error of a request that the engine passes on to a
// registry is about reaching the engine. What an engine answers may look like
// that too, when it could not reach the registry.
func engineLost(err error) bool {
	if _, reported := errors.AsType[*jsonstream.Error](err); reported {
		return false
	}
	return lost(err) && !strings.HasPrefix(err.Error(), daemonPrefix)
}

// reportedError is an error in the report on a pull that began well, with the
// kind that its code stands for.
type reportedError struct {
	reported *jsonstream.Error
	kind     error
}

func (e reportedError) Error() string   { return e.reported.Message }
func (e reportedError) Unwrap() []error { return []error{e.reported, e.kind} }
