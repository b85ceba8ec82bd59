package imageaccess

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/distribution/reference"
)

// maxGrants bounds what is remembered. All is forgotten when it is reached, and
// asked for again.
const maxGrants = 10_000

// grants remember who has shown lately that a registry gives it an image.
type grants struct {
	ttl   time.Duration
	mu    sync.Mutex // guards until
	until map[grant]time.Time
}

// grant says that a tenant may use an image, which it showed with credentials of
// that digest for that name; or, with neither, the image of that identifier.
type grant struct {
	tenant      string
	credentials [sha256.Size]byte
	image       string
}

// add notes that the registry gave a tenant an image.
func (g *grants) add(tenant string, who Puller, named reference.Named, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until == nil || len(g.until) >= maxGrants {
		g.until = map[grant]time.Time{}
	}
	until := time.Now().Add(g.ttl)
	g.until[grant{tenant, who.digest, named.String()}] = until
	g.until[grant{tenant: tenant, image: id}] = until
}

// holds reports whether that was granted lately.
func (g *grants) holds(one grant) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Now().Before(g.until[one])
}
