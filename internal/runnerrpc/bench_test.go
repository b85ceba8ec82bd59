package runnerrpc

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tinefn/tine/invoke"
)

// BenchmarkHop is what the way to a runner on the same machine and back costs a call
// whose function takes no time.
func BenchmarkHop(b *testing.B) {
	_, address := serve(b, ServerOptions{Invoker: echo})
	client := dial(b, address, ClientOptions{})
	for _, size := range []struct {
		name  string
		bytes int
	}{{"Empty", 0}, {"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}} {
		text := strings.Repeat("x", size.bytes)
		call := func(tb testing.TB) {
			c := newCall(text)
			c.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}, "Content-Type": {"text/plain"}}
			response, err := client.Invoke(context.Background(), c)
			if err == nil {
				if held, ok := response.Body.(*invoke.HeldBody); !ok {
					_, err = io.Copy(io.Discard, response.Body)
				} else if len(held.Bytes()) != size.bytes {
					tb.Errorf("got %d bytes", len(held.Bytes()))
				}
				response.Body.Close()
			}
			if err != nil {
				tb.Fatal(err)
			}
		}
		b.Run(size.name+"/OneAfterAnother", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size.bytes))
			for b.Loop() {
				call(b)
			}
		})
		b.Run(size.name+"/AtOneTime", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size.bytes))
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					call(b)
				}
			})
		})
	}
}

// What a call's way costs that is not gRPC's.
func BenchmarkWriteCall(b *testing.B) {
	var d encodedDefinitions
	call := benchCall()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.encode(call); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadCall(b *testing.B) {
	text, err := new(encodedDefinitions).encode(benchCall())
	if err != nil {
		b.Fatal(err)
	}
	var d definitions
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.decodeCall(text); err != nil {
			b.Fatal(err)
		}
	}
}

func benchCall() *invoke.Call {
	call := newCall("hello")
	call.Header = http.Header{"Accept": {"*/*"}, "User-Agent": {"bench"}, "Content-Type": {"text/plain"}}
	return call
}
