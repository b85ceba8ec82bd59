package model

import (
	"net/http"
	"strings"
	"sync"
)

// Told makes an error of what another node told of one by [Describe]: its kind if
// that can be recognized, else an error with the same status, text and blame. What
// is no status of an error, and a client of the other node that left, are
// internal errors here.
func Told(status int, text string, user bool) error {
	if kind, ok := kindsByRow()[kindRow{status, text, user}]; ok {
		return kind
	}
	told := &Error{Kind: ErrRemote, Message: text, Status: status}
	switch {
	case status == http.StatusServiceUnavailable:
		told.Kind = ErrServerBusy
	case status == StatusClientClosedRequest || status < http.StatusBadRequest || status > maxErrorStatus:
		told.Kind, told.Status = ErrInternal, 0
	case user && strings.HasPrefix(text, kinds[ErrImagePullFailed].text):
		told.Kind = ErrImagePullFailed
	case user:
		told.Kind = ErrRemoteFunction
	}
	return told
}

// maxErrorStatus is the largest status that speaks of a failure.
const maxErrorStatus = 599

// kindsByRow finds kinds by what is told of them: the first one, as some look the
// same.
var kindsByRow = sync.OnceValue(func() map[kindRow]Kind {
	byRow := make(map[kindRow]Kind, kindCount)
	for kind, row := range kinds {
		if _, taken := byRow[row]; !taken && Kind(kind) != ErrClientCanceled {
			byRow[row] = Kind(kind)
		}
	}
	return byRow
})
