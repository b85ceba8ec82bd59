package imageaccess

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// "user:pass" in base64.
const userPass = "dXNlcjpwYXNz"

func TestCredentialsAreFoundByRegistry(t *testing.T) {
	tests := map[string]struct {
		config, image string
		want          string // user name, "" for nobody
	}{
		"host":                             {`{"auths":{"r.example.com":{"auth":"` + userPass + `"}}}`, "r.example.com/a/b:1", "user"},
		"host with a port":                 {`{"auths":{"r.example.com:5000":{"auth":"` + userPass + `"}}}`, "r.example.com:5000/b", "user"},
		"other port":                       {`{"auths":{"r.example.com:5000":{"auth":"` + userPass + `"}}}`, "r.example.com/b", ""},
		"scheme and path":                  {`{"auths":{"https://r.example.com/v1/":{"auth":"` + userPass + `"}}}`, "r.example.com/b", "user"},
		"name and password":                {`{"auths":{"r.example.com":{"username":"me","password":"p"}}}`, "r.example.com/b", "me"},
		"other host":                       {`{"auths":{"r.example.com":{"auth":"` + userPass + `"}}}`, "s.example.com/b", ""},
		"parent of the host":               {`{"auths":{"eu.r.example.com":{"auth":"` + userPass + `"}}}`, "r.example.com/b", "user"},
		"parent of the host, with a port":  {`{"auths":{"eu.r.example.com:5000":{"auth":"` + userPass + `"}}}`, "r.example.com:5000/b", "user"},
		"not the one below the host":       {`{"auths":{"r.example.com":{"auth":"` + userPass + `"}}}`, "eu.r.example.com/b", ""},
		"not the top of the domain":        {`{"auths":{"r.localhost":{"auth":"` + userPass + `"}}}`, "localhost/b", ""},
		"host before those below it":       {`{"auths":{"a.r.io":{"username":"below","password":"p"},"r.io":{"username":"own","password":"p"}}}`, "r.io/b", "own"},
		"no registry is Docker's":          {`{"auths":{"https://index.docker.io/v1/":{"auth":"` + userPass + `"}}}`, "b:1", "user"},
		"no registry, under another name":  {`{"auths":{"hub.docker.com":{"auth":"` + userPass + `"}}}`, "a/b:1", "user"},
		"older form":                       {`{"r.example.com":{"auth":"` + userPass + `","email":"x"}}`, "r.example.com/b", "user"},
		"empty entry":                      {`{"auths":{"r.example.com":{}}}`, "r.example.com/b", ""},
		"config.json without credentials":  {`{"psFormat":"table","HttpHeaders":{"User-Agent":"x"}}`, "r.example.com/b", ""},
		"password with a colon is no name": {`{"auths":{"r.example.com":{"auth":"YTpiOmM="}}}`, "r.example.com/b", "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := parseCredentials([]byte(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			image, err := reference.ParseNormalizedNamed(tt.image)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.forImage(image); err != nil || got.Username != tt.want {
				t.Errorf("got %+v, %v, want user %q", got, err, tt.want)
			}
		})
	}
}

func TestWrongCredentialsAreToldAndNotShown(t *testing.T) {
	for name, text := range map[string]string{
		"not JSON":     `secret`,
		"not base64":   `{"auths":{"r.example.com":{"auth":"?secret?"}}}`,
		"no password":  `{"auths":{"r.example.com":{"auth":"c2VjcmV0"}}}`,
		"not an entry": `{"auths":{"r.example.com":"secret"}}`,
	} {
		if _, err := parseCredentials([]byte(text)); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCredentialsOfAHelper(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\nread server\ncase $server in\nkept.example.com) echo '{\"Username\":\"helped\",\"Secret\":\"s\"}' ;;\n" +
		"token.example.com) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}' ;;\nbroken.example.com) echo 'vault is sealed' >&2; exit 1 ;;\n*) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	c, err := parseCredentials([]byte(`{"credsStore":"test","auths":{"plain.example.com":{"auth":"` + userPass + `"},"kept.example.com":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]registry.AuthConfig{
		"kept.example.com":  {Username: "helped", Password: "s", ServerAddress: "kept.example.com"},
		"token.example.com": {IdentityToken: "t", ServerAddress: "token.example.com"},
		"plain.example.com": {Username: "user", Password: "pass", ServerAddress: "plain.example.com"},
		"other.example.com": {},
	} {
		image, err := reference.ParseNormalizedNamed(host + "/b")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.forImage(image); err != nil || got != want {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
	image, err := reference.ParseNormalizedNamed("broken.example.com/b")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.forImage(image); err == nil || !strings.Contains(err.Error(), "docker-credential-test") {
		t.Errorf("a helper that fails: %v", err)
	}
}

func TestCredentialsOfAFileAreReadWhenTheyAreThere(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.json")
	if c, err := loadCredentials(name); err != nil || len(c.hosts) != 0 {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(name, []byte(`{"auths":{"r.example.com":{"auth":"`+userPass+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := loadCredentials(name); err != nil || len(c.hosts) != 1 {
		t.Errorf("a file: %v", err)
	}
	if err := os.WriteFile(name, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCredentials(name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a broken file: %v", err)
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add(`{"auths":{"r.example.com":{"auth":"`+userPass+`"}}}`, "r.example.com/b")
	f.Add(`{"r.example.com":{"username":"u","password":"p"}}`, "b")
	f.Fuzz(func(_ *testing.T, text, name string) {
		c, err := parseCredentials([]byte(text))
		if err != nil {
			return
		}
		c.config.CredentialsStore, c.config.CredentialHelpers = "", nil // no programs
		if image, err := reference.ParseNormalizedNamed(name); err == nil {
			_, _ = c.forImage(image) // must not panic
		}
	})
}
