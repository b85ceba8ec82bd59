package docker

import "sync"

// networks hands out the least used of the configured networks.
type networks struct {
	names []string

	mu  sync.Mutex // guards use
	use []int      // containers per network of names
}

// take returns the least used network, or "" if none is configured.
func (n *networks) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.names) == 0 {
		return ""
	}
	least := 0
	for i, used := range n.use {
		if used < n.use[least] {
			least = i
		}
	}
	n.use[least]++
	return n.names[least]
}

// giveBack ends the use of a network that take returned.
func (n *networks) giveBack(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.names {
		if n.names[i] == name {
			n.use[i]--
			return
		}
	}
}
