package image

import (
	"context"
	"testing"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
)

// Push puts an image of the engine into a registry, as whom auth says, and leaves it
// without that name on the engine. What is pulled under it is without it after the
// test too.
func Push(t testing.TB, local, ref string, auth registry.AuthConfig) {
	t.Helper()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: local, Target: ref}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Untag(t, ref) })
	encoded, err := authconfig.Encode(auth)
	if err != nil {
		t.Fatal(err)
	}
	report, err := engine.ImagePush(t.Context(), ref, client.ImagePushOptions{RegistryAuth: encoded})
	if err == nil {
		err = report.Wait(t.Context())
	}
	if err != nil {
		t.Fatalf("push: %v", err)
	}
	Untag(t, ref)
}

// Untag takes the name from an image of the engine, which stays if it has another
// one. A name that is not there is none to take.
func Untag(t testing.TB, ref string) {
	t.Helper()
	engine, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	_, _ = engine.ImageRemove(context.WithoutCancel(t.Context()), ref, client.ImageRemoveOptions{})
}
