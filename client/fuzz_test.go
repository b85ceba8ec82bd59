package client_test

import (
	"net/url"
	"testing"

	"github.com/tinefn/tine/client"
)

// What is accepted as an address is one, and stays the same when it is given again.
func FuzzAddresses(f *testing.F) {
	for _, base := range []string{"http://api:8080", "https://[::1]/v2/", "http://a/v2/v2", "http://a/%2e%2e/b%2Fc//", "http://a?x#y", "api", "http://u:p@a"} {
		f.Add(base)
	}
	f.Fuzz(func(t *testing.T, base string) {
		c, err := client.New(base, client.Options{})
		if err != nil {
			return
		}
		parsed, err := url.Parse(c.Base())
		if err != nil || parsed.Host == "" || parsed.RawQuery != "" || parsed.User != nil {
			t.Errorf("%q became %q: %v", base, c.Base(), err)
		}
	})
}
