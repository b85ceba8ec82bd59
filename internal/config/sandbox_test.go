package config

import (
	"strings"
	"testing"
)

func TestUsersOfSandboxes(t *testing.T) {
	c, _ := load(t, "FN_SANDBOX_USERS=Own", "FN_SANDBOX_IDS=100000-165535")
	if got := c.Engine.Sandbox; got.Users != SandboxUsersOwn || got.FirstID != 100000 || got.LastID != 165535 {
		t.Errorf("got %+v", got)
	}
	for _, wrong := range []string{
		"FN_SANDBOX_USERS=mine", "FN_SANDBOX_IDS=100000", "FN_SANDBOX_IDS=100000-165534", "FN_SANDBOX_IDS=0-165535",
		"FN_SANDBOX_IDS=200000-100000", "FN_SANDBOX_IDS=100000-4294967296", "FN_SANDBOX_IDS=a-b",
	} {
		name, _, _ := strings.Cut(wrong, "=")
		if _, _, err := Load([]string{wrong}, noFiles, "/srv/tine"); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
