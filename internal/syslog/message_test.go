package syslog

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestMessages(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, test := range []struct {
		name string
		line Line
		want string
	}{
		{"nothing known", Line{Time: time.Unix(0, 0), Severity: Info, AppID: "A", FnID: "F"}, `<14>1 1970-01-01T00:00:00.000000Z h app_id=A,fn_id=F - - [fn@32473 app_id="A" fn_id="F"] `},
		{
			"long and odd",
			Line{Time: time.Unix(0, 0), Severity: Error, AppID: "01M89PZDYCR3C15F9TER000002", FnID: "01M89PZDYCR3C15F9TER000003", InstanceID: long, CallID: "a b]\"c", Text: "blåbær"},
			`<11>1 1970-01-01T00:00:00.000000Z h app_id=01M89PZDYCR3C15F9TER000002,fn_id=01M89PZD ` + long[:128] + ` a?b]"c [fn@32473 app_id="01M89PZDYCR3C15F9TER000002" fn_id="01M89PZDYCR3C15F9TER000003" instance_id="` + long + `" call_id="a b\]\"c"] blåbær`,
		},
	} {
		if got := string(test.line.append(nil, "h")); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestFraming(t *testing.T) {
	for _, test := range []struct {
		conn net.Conn
		want string
	}{{&net.UDPConn{}, "hello"}, {stream{}, "hello\n"}, {framed{}, "5 hello"}} {
		if got := string(frame(test.conn, []byte("hello"))); got != test.want {
			t.Errorf("%T: %q", test.conn, got)
		}
	}
}

func TestUsualPorts(t *testing.T) {
	for address, want := range map[string]string{
		"udp://h": "h:514", "tcp://h:1": "h:1", "udp://[::1]": "[::1]:514",
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := withPort(u, defaultPort); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
}

func TestTLSServersAreVerified(t *testing.T) {
	server := httptest.NewTLSServer(nil) // for its certificate, which nobody has signed
	defer server.Close()
	_, err := dial(t.Context(), "tcp+tls://"+server.Listener.Addr().String())
	if _, unverified := errors.AsType[*tls.CertificateVerificationError](err); !unverified {
		t.Errorf("got %T %v", err, err)
	}
}
