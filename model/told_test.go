package model

import (
	"errors"
	"testing"
)

func TestToldIsTheErrorOfTheOtherNode(t *testing.T) {
	for kind := range kindCount {
		if kind == ErrClientCanceled {
			continue
		}
		want := Describe(kind)
		got := Describe(Told(want.Status, want.Text, want.User))
		if got.Status != want.Status || got.Text != want.Text || got.User != want.User {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	for _, test := range []struct {
		status int
		text   string
		user   bool
		want   Description
	}{
		{504, "Timed out", true, Description{ErrCallTimeout, 504, "Timed out", true}},
		{504, "Timed out", false, Description{ErrRemote, 504, "Timed out", false}},
		{503, "no room", false, Description{ErrServerBusy, 503, "no room", false}},
		{450, "custom", false, Description{ErrRemote, 450, "custom", false}},
		{418, "custom", true, Description{ErrRemoteFunction, 418, "custom", true}},
		{404, "Failed to pull image 'x': gone", true, Description{ErrImagePullFailed, 404, "Failed to pull image 'x': gone", true}},
		{0, "secret", false, Describe(ErrInternal)},
		{200, "secret", true, Describe(ErrInternal)},
		{-1, "secret", true, Describe(ErrInternal)},
		{600, "secret", true, Describe(ErrInternal)},
		// The client of the other node is this one, which is still there.
		{444, "Client cancelled context", false, Describe(ErrInternal)},
	} {
		if got := Describe(Told(test.status, test.text, test.user)); got != test.want {
			t.Errorf("%d %q: got %+v, want %+v", test.status, test.text, got, test.want)
		}
	}
	if err := Told(0, "cause", false); err.Error() != "cause" || !errors.Is(err, ErrInternal) {
		t.Errorf("the log gets %q", err)
	}
}
