package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// OwnHost begins the names of what was pushed to the registry that is served from
// the store, whatever address that is reached at. So images keep their names when
// the address changes, and all addresses mean the same repositories. The domain
// internal is for private use and never in the public DNS (ICANN, resolution of
// 29 July 2024).
const OwnHost = "tine.internal"

// ownHostsName is a file with the hosts that meant OwnHost, the latest first.
const ownHostsName = "hosts.json"

// mostOwnHosts bounds what is remembered of a server whose port changes at each
// start.
const mostOwnHosts = 16

// loadOwnHosts finds out which hosts mean OwnHost now, and which did before.
func (s *Store) loadOwnHosts() error {
	s.ownHosts, s.formerHosts = map[string]bool{OwnHost: true}, map[string]bool{}
	var known []string
	content, err := os.ReadFile(s.path(ownHostsName))
	if err == nil {
		err = json.Unmarshal(content, &known)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.problems = append(s.problems, s.quarantine(s.path(ownHostsName), err.Error()))
		known = nil
	}
	var now []string
	for _, host := range s.opts.OwnHosts {
		host = strings.ToLower(host)
		if _, err := Normalize(host + "/a:b"); err != nil {
			return fmt.Errorf("%q is no host of images: %w", host, err)
		}
		s.ownHosts[host] = true
		now = append(now, host)
	}
	all := slices.Clone(now)
	for _, host := range known {
		if !slices.Contains(all, host) {
			all = append(all, host)
			s.formerHosts[host] = true
		}
	}
	if all = all[:min(len(all), max(mostOwnHosts, len(now)))]; slices.Equal(all, known) {
		return nil
	}
	if content, err = json.Marshal(all); err != nil {
		return err
	}
	return s.writeFile(s.path(ownHostsName), append(content, '\n'))
}

// Own reports whether a name is one of the registry that is served from the
// store, so that no other can have the image. With a host of before it is if that
// registry has the image: another one may be there by now.
func (s *Store) Own(name string) bool {
	normalized, err := s.normalize(name)
	if err != nil || strings.HasPrefix(normalized, OwnHost+"/") {
		return err == nil
	}
	former := underOwnHost(normalized, s.formerHosts)
	if former == normalized {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findNamed(normalized) == nil && s.findNamed(former) != nil
}

// normalize is Normalize, with one host for all that mean the store's own
// registry.
func (s *Store) normalize(name string) (string, error) {
	normalized, err := Normalize(name)
	if err != nil {
		return "", err
	}
	return underOwnHost(normalized, s.ownHosts), nil
}

// underOwnHost replaces the host of a normalized name if it is one of hosts.
func underOwnHost(normalized string, hosts map[string]bool) string {
	host, path, ok := strings.Cut(normalized, "/")
	if ok && hosts[strings.ToLower(host)] {
		return OwnHost + "/" + path
	}
	return normalized
}

// Canonical is the form in which the store knows a name: that of [Normalize], with
// [OwnHost] for all hosts that mean the store's own registry, or did before.
func (s *Store) Canonical(name string) (string, error) {
	normalized, err := s.normalize(name)
	if err != nil {
		return "", err
	}
	return underOwnHost(normalized, s.formerHosts), nil
}
