package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

const (
	// costliestHash bounds how long one password takes to check: each step more
	// doubles it, and 14 is about a second.
	costliestHash = 14
	// hashesAtOnce are passwords that are checked at one time, so that who guesses
	// them does not take all processors.
	hashesAtOnce = 2
)

// Users are who may use a registry. A password that was right is not hashed
// again, as clients send theirs with each of dozens of requests. It is safe for
// concurrent use.
type Users struct {
	secrets map[string]string // user -> password, or its bcrypt hash
	decoy   string            // a hash to check for users that there are not; empty: no hashes
	slots   chan struct{}
	key     [sha256.Size]byte

	mu    sync.Mutex // guards what follows
	right map[string][sha256.Size]byte
}

// ParseUsers reads users as user:password or user:hash, separated by white space,
// with bcrypt hashes as htpasswd -B makes them; so it also reads what htpasswd
// writes. Lines that begin with # are skipped. The errors name no password.
func ParseUsers(text string) (*Users, error) {
	u := &Users{secrets: map[string]string{}, slots: make(chan struct{}, hashesAtOnce), right: map[string][sha256.Size]byte{}}
	_, _ = rand.Read(u.key[:]) // cannot fail
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for entry := range strings.FieldsSeq(line) {
			if err := u.add(entry); err != nil {
				return nil, err
			}
		}
	}
	if len(u.secrets) == 0 {
		return nil, errors.New("there is no user: give them as user:password")
	}
	return u, nil
}

func (u *Users) add(entry string) error {
	user, secret, ok := strings.Cut(entry, ":")
	if !ok || user == "" || secret == "" {
		return fmt.Errorf("entry %d is not user:password", len(u.secrets)+1)
	}
	if _, again := u.secrets[user]; again {
		return fmt.Errorf("user %q is there twice", user)
	}
	switch {
	case strings.HasPrefix(secret, "$2"):
		cost, err := bcrypt.Cost([]byte(secret))
		if err != nil {
			return fmt.Errorf("the bcrypt hash of user %q is damaged", user)
		}
		if cost > costliestHash {
			return fmt.Errorf("the hash of user %q has the cost %d, above %d: make it with a smaller one", user, cost, costliestHash)
		}
		u.decoy = secret
	case strings.HasPrefix(secret, "$apr1$"), strings.HasPrefix(secret, "{SHA}"), strings.HasPrefix(secret, "$5$"), strings.HasPrefix(secret, "$6$"):
		return fmt.Errorf("the hash of user %q is not a bcrypt one: make it with htpasswd -B", user)
	}
	u.secrets[user] = secret
	return nil
}

// Accept reports whether the password is the user's. How long it takes does not
// tell whether there is the user. It gives up when ctx ends.
func (u *Users) Accept(ctx context.Context, user, password string) bool {
	mac := hmac.New(sha256.New, u.key[:])
	mac.Write([]byte(password))
	given := [sha256.Size]byte(mac.Sum(nil))
	u.mu.Lock()
	right, known := u.right[user]
	u.mu.Unlock()
	if known && subtle.ConstantTimeCompare(right[:], given[:]) == 1 {
		return true
	}
	secret, exists := u.secrets[user]
	if exists && !strings.HasPrefix(secret, "$2") {
		return equal(secret, password) == 1
	}
	if !exists {
		secret = u.decoy
	}
	if secret == "" {
		return false
	}
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	case <-ctx.Done():
		return false
	}
	if bcrypt.CompareHashAndPassword([]byte(secret), []byte(password)) != nil || !exists {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.right[user] = given
	return true
}

// equal compares hashes, so that the time it takes tells nothing.
func equal(a, b string) int {
	left, right := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(left[:], right[:])
}
