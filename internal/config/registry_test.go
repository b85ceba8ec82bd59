package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestAddressOfTheRegistry(t *testing.T) {
	for value, want := range map[string]string{
		"off": "off", "127.0.0.1:0": "127.0.0.1:0", ":5050": ":5050", "[::1]:5050": "[::1]:5050",
		"5050": "", "127.0.0.1": "", "127.0.0.1:http": "", "127.0.0.1:65536": "", "127.0.0.1:": "",
	} {
		c, _, err := Load([]string{"FN_REGISTRY_LISTEN=" + value}, nil, "/")
		switch {
		case want == "":
			if err == nil || !strings.Contains(err.Error(), "expected <host>:<port> or off") {
				t.Errorf("%q: %v", value, err)
			}
		case err != nil:
			t.Errorf("%q: %v", value, err)
		case c.Engine.Registry.Off != (want == "off") || !c.Engine.Registry.Off && c.Engine.Registry.Address != want:
			t.Errorf("%q: %+v", value, c.Engine.Registry)
		}
	}
}

func TestUsersOfTheRegistryAreNotPrinted(t *testing.T) {
	c, _ := load(t, "FN_REGISTRY_USERS=fn:sesame")
	if text := fmt.Sprintf("%v %+v %s", c.Engine.Registry, c, c.Engine.Registry.Users); strings.Contains(text, "sesame") || c.Engine.Registry.Users.Reveal() != "fn:sesame" {
		t.Error(text)
	}
}
