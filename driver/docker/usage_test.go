package docker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestImageIsInUseWhileHeldAndForAMinuteLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u usage
		keys := []string{"sha256:1", imageKey("busybox")}
		claim := func(want bool) {
			t.Helper()
			if got := u.claim(keys); got != want {
				t.Errorf("claimed: %t", got)
			}
		}
		u.hold(t.Context(), "busybox:latest")
		u.hold(t.Context(), "busybox")
		time.Sleep(time.Hour)
		u.release("busybox")
		time.Sleep(time.Hour)
		u.retain(nil, time.Now())
		claim(false)
		u.release("busybox")
		time.Sleep(imageGrace - 1)
		u.retain(nil, time.Now())
		claim(false)
		if inUse, last := u.see(keys, time.Now(), false); !inUse || time.Since(last) != 0 {
			t.Errorf("in use %t, last %v", inUse, last)
		}
		time.Sleep(time.Nanosecond)
		if inUse, _ := u.see(keys, time.Now(), false); inUse {
			t.Error("still in use")
		}
		claim(true)
		claim(false) // by two at one time
		u.unclaim(keys)
		u.retain(nil, time.Now())
		if len(u.images) != 0 {
			t.Errorf("remembers %v", u.images)
		}
	})
}

func TestHoldWaitsForARemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u usage
		keys := []string{"sha256:1", imageKey("busybox"), imageKey("other")}
		if !u.claim(keys) {
			t.Fatal("not claimed")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		u.hold(ctx, "other")
		if took := time.Since(began); took != time.Second {
			t.Errorf("with a deadline it took %v", took)
		}
		time.AfterFunc(time.Minute, func() { u.unclaim(keys) })
		u.hold(t.Context(), "busybox")
		if took := time.Since(began); took != time.Second+time.Minute {
			t.Errorf("without one it took %v", took)
		}
	})
}

func TestAgeOfImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u usage
		began := time.Now()
		age := func(id string, names ...string) time.Duration {
			_, last := u.see(imageKeys(id, names, nil), time.Now(), false)
			return last.Sub(began)
		}
		check := func(want, got time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("last used after %v, want %v", got, want)
			}
		}
		check(0, age(imageID(1), "a"))
		time.Sleep(time.Hour)
		check(0, age(imageID(1), "a"))
		check(time.Hour, age(imageID(2), "b"))
		time.Sleep(time.Hour)
		u.see(imageKeys(imageID(1), nil, nil), time.Now(), true) // by a container
		time.Sleep(time.Hour)
		check(2*time.Hour, age(imageID(1), "a"))
		// The name of an image that was seen long ago moves to a new one, and is used.
		u.hold(t.Context(), "b")
		u.release("b")
		check(3*time.Hour, age(imageID(3), "b"))
		check(time.Hour, age(imageID(2)))
		time.Sleep(time.Hour)
		u.putBack(imageID(2))
		check(4*time.Hour, age(imageID(2)))
	})
}
