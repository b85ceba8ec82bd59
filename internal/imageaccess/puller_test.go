package imageaccess

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/tinefn/tine/driver"
)

func open(t *testing.T, opts Options) *Access {
	t.Helper()
	a, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func named(t *testing.T, text string) reference.Named {
	t.Helper()
	name, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		t.Fatal(err)
	}
	return reference.TagNameOnly(name)
}

// login is a config.json with one entry.
func login(host, user string) []byte {
	return fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":"p"}}}`, host, user)
}

func TestTokenComesBeforeTheAppsFileAndThatBeforeTheNode(t *testing.T) {
	apps, home := t.TempDir(), t.TempDir()
	for file, text := range map[string][]byte{
		filepath.Join(apps, "a.json"):      login("r.io", "app"),
		filepath.Join(home, "config.json"): login("h.io", "home"),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	node := login("r.io", "node")
	for _, tt := range []struct {
		name  string
		opts  Options
		image string
		want  driver.ImageRequest
		user  string
		token string
		own   bool
	}{
		{"token", Options{Auth: node, AppAuthDir: apps}, "r.io/b", driver.ImageRequest{Tenant: "a", Token: "t"}, "", "t", true},
		{"app", Options{Auth: node, AppAuthDir: apps}, "r.io/b", driver.ImageRequest{Tenant: "a"}, "app", "", true},
		{"app without a file", Options{Auth: node, AppAuthDir: apps}, "r.io/b", driver.ImageRequest{Tenant: "b"}, "node", "", false},
		{"no app", Options{Auth: node, AppAuthDir: apps}, "r.io/b", driver.ImageRequest{}, "node", "", false},
		{"other registry", Options{Auth: login("s.io", "node"), AppAuthDir: apps}, "s.io/b", driver.ImageRequest{Tenant: "a"}, "node", "", false},
		{"nobody", Options{Auth: node, AppAuthDir: apps}, "s.io/b", driver.ImageRequest{Tenant: "a"}, "", "", false},
		{"config.json", Options{ConfigDir: home}, "h.io/b", driver.ImageRequest{}, "home", "", false},
		{"setting before config.json", Options{Auth: node, ConfigDir: home}, "h.io/b", driver.ImageRequest{}, "", "", false},
		{"hub", Options{Auth: login("https://index.docker.io/v1/", "hub")}, "busybox", driver.ImageRequest{}, "hub", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			who, err := open(t, tt.opts).identify(named(t, tt.image), tt.want)
			if err != nil {
				t.Fatal(err)
			}
			config, err := authn.Authorization(t.Context(), who.Authenticator())
			if err != nil || config.Username != tt.user || config.RegistryToken != tt.token {
				t.Errorf("%+v, %v", config, err)
			}
			if who.own() != tt.own {
				t.Errorf("an app's own: %t", who.own())
			}
			if isNobody := tt.user == "" && tt.token == ""; (who.Header() == "") != isNobody {
				t.Errorf("an engine is told %q", who.Header())
			}
		})
	}
}

func TestOtherCredentialsAreAnotherPuller(t *testing.T) {
	a := open(t, Options{})
	seen := map[[32]byte]string{}
	for _, token := range []string{"", "a", "b"} {
		who, err := a.identify(named(t, "r.io/b"), driver.ImageRequest{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if other, known := seen[who.digest]; known {
			t.Errorf("%q and %q are the same", token, other)
		}
		seen[who.digest] = token
	}
}

func TestWrongSettingsEndTheStart(t *testing.T) {
	for name, opts := range map[string]Options{
		"credentials": {Auth: []byte("secret")},
		"directory":   {AppAuthDir: filepath.Join(t.TempDir(), "absent")},
	} {
		if _, err := Open(opts); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAppsThatNameNoFileOfTheDirectoryAreRefused(t *testing.T) {
	a := open(t, Options{AppAuthDir: t.TempDir()})
	for _, tenant := range []string{"../a", "a/b", ".hidden", strings.Repeat("a", 300)} {
		_, err := a.identify(named(t, "r.io/b"), driver.ImageRequest{Name: "r.io/b", Tenant: tenant})
		if refused, ok := errors.AsType[*driver.PullError](err); !ok || refused.Status == http.StatusOK || refused.Image != "r.io/b" {
			t.Errorf("%q: %v", tenant, err)
		}
	}
}
