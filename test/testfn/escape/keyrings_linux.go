package escape

import "golang.org/x/sys/unix"

// keyrings tries to use keys. Those of users and sessions are not in any namespace
// but that of users, and their numbers are the machine's.
func keyrings(r *Run) {
	r.try("read a key by its number", func() error {
		content := make([]byte, maxRead)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, r.Key, content, 0)
		if err != nil {
			return err
		}
		return r.hasMarker(content[:min(n, len(content))])
	})
	r.try("describe a key by its number", func() error {
		_, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, r.Key)
		return err
	})
	r.try("search the user's keys", func() error {
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", r.Marker, 0)
		return err
	})
	r.try("join a session", func() error {
		return apart(func() error {
			_, err := unix.KeyctlJoinSessionKeyring("escape")
			return err
		})
	})
	for variant, ring := range map[string]int{"user's": unix.KEY_SPEC_USER_KEYRING, "session's": unix.KEY_SPEC_SESSION_KEYRING} {
		r.try("add to the "+variant+" keys", func() error {
			_, err := unix.AddKey("user", "escape", []byte("escape"), ring)
			return err
		})
	}
	r.try("request a key", func() error {
		_, err := unix.RequestKey("user", "escape", "", 0)
		return err
	})
	r.call("persistent keys", unix.SYS_KEYCTL, unix.KEYCTL_GET_PERSISTENT, ^uintptr(0), ^uintptr(2)+1)
	r.try("list of keys", func() error {
		content, err := readSome("/proc/keys")
		if err == nil && len(content) == 0 {
			return errHidden
		}
		return err
	}, absent...)
}
