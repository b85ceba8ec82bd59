package image

import (
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Errors that callers tell apart with errors.Is.
var (
	ErrNotFound  = errors.New("no such image in the store")
	ErrAmbiguous = errors.New("the short identifier means several images")
	ErrInvalid   = errors.New("invalid image")              // a manifest, config or layer that breaks the rules of its format
	ErrLimit     = errors.New("image exceeds a limit")      // see Limits
	ErrDigest    = errors.New("content has another digest") // of a blob, or of an unpacked layer
	ErrDamaged   = errors.New("image is damaged on disk")   // pull or import it again
	ErrNoSpace   = errors.New("no space left for images")
	ErrLocked    = errors.New("another process uses the image store")
	ErrPrivilege = errors.New("unpacking layers needs root")
	ErrClosed    = errors.New("the image store is closed")
)

// PlatformError says that an image does not exist for this host.
type PlatformError struct {
	Image string
	Want  v1.Platform
	Have  []v1.Platform
}

func (e *PlatformError) Error() string {
	have := make([]string, len(e.Have))
	for i, p := range e.Have {
		have[i] = p.String()
	}
	list := strings.Join(have, ", ")
	if list == "" {
		list = "no platform"
	}
	return fmt.Sprintf("image %s is for %s, this host needs %s: build or push it for that platform", e.Image, list, e.Want)
}

// Problem is something on disk that is not as it should be.
type Problem struct {
	Object string // a name, or a path below the store's directory
	Cause  string
	Repair string // what to do, or what was done
}

func (p Problem) String() string { return p.Object + ": " + p.Cause + "; " + p.Repair }
