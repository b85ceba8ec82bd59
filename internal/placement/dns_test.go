package placement

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameserver is a DNS server on loopback that answers from tables.
type nameserver struct {
	conn net.PacketConn

	mu    sync.Mutex // guards the rest
	hosts map[string][]string
	srv   map[string][]dnsmessage.SRVResource
	broke bool // it answers SERVFAIL
}

func startNameserver(t *testing.T) *nameserver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameserver{conn: conn, hosts: map[string][]string{}, srv: map[string][]dnsmessage.SRVResource{}}
	var serving sync.WaitGroup
	serving.Go(s.serve)
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	return s
}

func (s *nameserver) serve() {
	buffer := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var query dnsmessage.Message
		if query.Unpack(buffer[:n]) != nil || len(query.Questions) != 1 {
			continue
		}
		if packed, err := s.answer(&query).Pack(); err == nil {
			s.conn.WriteTo(packed, from)
		}
	}
}

func (s *nameserver) answer(query *dnsmessage.Message) *dnsmessage.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	question := query.Questions[0]
	name := question.Name.String()
	reply := &dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true}, Questions: query.Questions}
	header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}
	if s.broke {
		reply.RCode = dnsmessage.RCodeServerFailure
		return reply
	}
	hosts, isHost := s.hosts[name]
	services, isService := s.srv[name]
	if !isHost && !isService {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, text := range hosts {
		ip := net.ParseIP(text)
		switch four := ip.To4(); {
		case four != nil && question.Type == dnsmessage.TypeA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: [4]byte(four)}})
		case four == nil && question.Type == dnsmessage.TypeAAAA:
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: [16]byte(ip)}})
		}
	}
	for _, service := range services {
		if question.Type == dnsmessage.TypeSRV {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &service})
		}
	}
	return reply
}

func (s *nameserver) host(name string, addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[name] = addresses
}

func (s *nameserver) service(name string, records ...dnsmessage.SRVResource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv[name] = records
}

func (s *nameserver) breakDown(broke bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broke = broke
}

// resolver asks this server.
func (s *nameserver) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func srv(priority uint16, target string, port uint16) dnsmessage.SRVResource {
	return dnsmessage.SRVResource{Priority: priority, Weight: 1, Port: port, Target: dnsmessage.MustNewName(target)}
}

// dialed is a runner of a discovery under test.
type dialed struct {
	*fake
	serverName string
	release    chan struct{} // Close waits for it; nil: it does not
	left       chan struct{} // closed by Close
}

func (d *dialed) Close(ctx context.Context) error {
	close(d.left)
	if d.release == nil {
		return nil
	}
	select {
	case <-d.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// dialer makes such runners.
type dialer struct {
	mu     sync.Mutex
	made   []*dialed
	refuse string
}

func (d *dialer) dial(address string) (Runner, error) { return d.dialNamed(address, "") }

func (d *dialer) dialNamed(address, serverName string) (Runner, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if address == d.refuse {
		return nil, errors.New("the certificate cannot be read")
	}
	r := &dialed{fake: &fake{address: address, invoke: answerWith(address)}, serverName: serverName, left: make(chan struct{})}
	d.made = append(d.made, r)
	return r, nil
}

// names are the runners that a pool has, each with the host that it was found by.
func names(t *testing.T, pool Pool) []string {
	t.Helper()
	runners, err := pool.Runners(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, r := range runners {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s", r.Address(), r.(*dialed).serverName)))
	}
	return list
}

// eventually waits until a pool has just these runners.
func eventually(t *testing.T, pool Pool, want ...string) {
	t.Helper()
	var got []string
	for range 500 {
		if got = names(t, pool); slices.Equal(got, want) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("got runners %q, want %q", got, want)
}

func discover(t *testing.T, d *dialer, opts DiscoveryOptions, places ...string) *Discovery {
	t.Helper()
	var err error
	if opts.Places, err = ParsePlaces(places); err != nil {
		t.Fatal(err)
	}
	opts.Dial, opts.DialNamed = d.dial, d.dialNamed
	pool, err := Discover(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
		if _, err := pool.Runners(ctx, nil); err == nil {
			t.Error("a closed pool has runners")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, r := range d.made {
			<-r.left
		}
	})
	return pool
}

func TestHostsAreLookedUpAgain(t *testing.T) {
	server := startNameserver(t)
	server.host("runners.test.", "192.0.2.2", "192.0.2.1")
	server.host("both.test.", "2001:db8::1", "192.0.2.9")
	server.host("six.test.", "2001:db8::2")
	d := &dialer{}
	pool := discover(t, d, DiscoveryOptions{Resolver: server.resolver(), Interval: 20 * time.Millisecond},
		"runners.test.:9190", "both.test.:9190", "six.test.:9190", "192.0.2.7:9190", "absent.test.:9190")
	all := func(some ...string) []string {
		list := append([]string{"192.0.2.7:9190", "192.0.2.9:9190 both.test", "[2001:db8::2]:9190 six.test"}, some...)
		slices.Sort(list)
		return list
	}
	// The first look-up was made before Discover returned.
	if got := names(t, pool); !slices.Equal(got, all("192.0.2.1:9190 runners.test", "192.0.2.2:9190 runners.test")) {
		t.Errorf("got %q", got)
	}
	server.host("runners.test.", "192.0.2.2", "192.0.2.3")
	eventually(t, pool, all("192.0.2.2:9190 runners.test", "192.0.2.3:9190 runners.test")...)
	server.host("absent.test.", "192.0.2.4")
	eventually(t, pool, all("192.0.2.2:9190 runners.test", "192.0.2.3:9190 runners.test", "192.0.2.4:9190 absent.test")...)
	d.mu.Lock()
	made := slices.Clone(d.made)
	d.mu.Unlock()
	for _, r := range made {
		if r.address == "192.0.2.1:9190" {
			<-r.left
		}
	}

	// While it does not answer, and when the name is gone, what was known stays.
	server.breakDown(true)
	before := names(t, pool)
	time.Sleep(100 * time.Millisecond)
	if got := names(t, pool); !slices.Equal(got, before) {
		t.Errorf("got %q", got)
	}
	server.breakDown(false)
	server.host("runners.test.")
	server.host("absent.test.", "192.0.2.5")
	eventually(t, pool, all("192.0.2.2:9190 runners.test", "192.0.2.3:9190 runners.test", "192.0.2.5:9190 absent.test")...)
}

func TestServicesAreLookedUpAgain(t *testing.T) {
	server := startNameserver(t)
	server.host("a.test.", "192.0.2.1")
	server.host("b.test.", "192.0.2.2")
	server.host("spare.test.", "192.0.2.3")
	server.service("_fn._tcp.test.", srv(1, "a.test.", 9190), srv(1, "b.test.", 9191), srv(2, "spare.test.", 9190), srv(1, ".", 1))
	pool := discover(t, &dialer{}, DiscoveryOptions{Resolver: server.resolver(), Interval: 20 * time.Millisecond}, "_fn._tcp.test.")
	if got := names(t, pool); !slices.Equal(got, []string{"192.0.2.1:9190 a.test", "192.0.2.2:9191 b.test"}) {
		t.Errorf("got %q", got)
	}
	// A host that cannot be looked up leaves its runners as they were, also beside
	// one that is new.
	server.mu.Lock()
	delete(server.hosts, "b.test.")
	server.mu.Unlock()
	server.host("c.test.", "192.0.2.4")
	server.service("_fn._tcp.test.", srv(1, "b.test.", 9191), srv(1, "c.test.", 9190))
	eventually(t, pool, "192.0.2.2:9191 b.test", "192.0.2.4:9190 c.test")
	server.service("_fn._tcp.test.", srv(1, "c.test.", 9190))
	eventually(t, pool, "192.0.2.4:9190 c.test")
	server.service("_fn._tcp.test.", srv(1, ".", 1)) // there is no such service
	time.Sleep(100 * time.Millisecond)
	eventually(t, pool, "192.0.2.4:9190 c.test")
}
