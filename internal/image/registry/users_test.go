package registry

import (
	"context"
	"strings"
	"testing"
)

// secretHash is bcrypt's of "secret".
const secretHash = "$2b$04$lbQu0LjPeuzx5PFFGMIniuAZvwXf8K9GrPB4Umy6C6AyoOPLwvrny"

func TestUsersAreAcceptedWithTheirPasswords(t *testing.T) {
	known := users(t, "# comment with a:colon\nhashed:"+secretHash+"\nplain:pass:word  other:x\n")
	for range 2 { // the second time it is remembered
		for _, test := range []struct {
			user, password string
			want           bool
		}{
			{"hashed", "secret", true},
			{"hashed", "wrong", false},
			{"hashed", secretHash, false},
			{"plain", "pass:word", true},
			{"plain", "pass", false},
			{"other", "pass:word", false},
			{"nobody", "secret", false},
			{"a", "colon", false},
			{"", "", false},
		} {
			if got := known.Accept(t.Context(), test.user, test.password); got != test.want {
				t.Errorf("%s %q: %v", test.user, test.password, got)
			}
		}
	}
}

func TestPasswordsAreNotHashedForClientsThatLeft(t *testing.T) {
	known := users(t, "hashed:"+secretHash)
	for range hashesAtOnce {
		known.slots <- struct{}{}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if known.Accept(gone, "hashed", "secret") {
		t.Error("accepted")
	}
}

func TestUsersThatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "no user",
		"# nobody":                   "no user",
		"word":                       "entry 1 is not",
		"a:b :c":                     "entry 2 is not",
		"a:":                         "entry 1 is not",
		"a:b a:c":                    "twice",
		"a:$apr1$salt$secret":        "not a bcrypt one",
		"a:$2b$04$short":             "damaged",
		"a:$2b$31$" + secretHash[7:]: "cost 31",
	} {
		_, err := ParseUsers(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseUsers(f *testing.F) {
	f.Add("a:b\nc:" + secretHash)
	f.Add("# a\n\ta:b:c")
	f.Fuzz(func(t *testing.T, text string) {
		known, err := ParseUsers(text)
		if err != nil {
			return
		}
		for user, secret := range known.secrets {
			if user == "" || secret == "" || strings.ContainsAny(user+secret, " \n") || strings.Contains(user, ":") {
				t.Errorf("user %q with %q", user, secret)
			}
			if !strings.HasPrefix(secret, "$2") && !known.Accept(t.Context(), user, secret) {
				t.Errorf("user %q is refused", user)
			}
		}
	})
}
