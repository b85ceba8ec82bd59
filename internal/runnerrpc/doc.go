// Package runnerrpc carries calls from a load balancer to a runner: [Client] is the
// load balancer's side of one runner, [Server] what a runner serves in front of its
// [invoke.Invoker]. Which runner is asked is not its business.
//
// Calls travel over gRPC, in the protocol of proto/runner.proto, which Fn's nodes
// speak. Tine's own tell each other in the metadata of a call that they know another
// way too, and then use that: it is the same protocol with less around it (package
// direct) and in a shorter form (compact.go).
//
//	load balancer                      runner
//	 ├─ try ────────────────────────►  decodes the call
//	 ├─ data … data, the last: eof ──►  invokes it when the first is there
//	 │              ◄── result_start    header of the answer
//	 │              ◄── data … data
//	 │              ◄── finished        always last: success, or what failed
//
// Read client.go, attempt.go, sender.go and answer.go for the load balancer's side, and
// clientstream.go and clientdirect.go for its two ways; server.go, engage.go and
// request.go for the runner's, and serverstream.go and serverdirect.go. How a call is
// written is in callmodel.go and compact.go. failure.go is about errors on both sides;
// status.go and logs.go are the rest of the protocol; options.go and tls.go how
// connections are made.
package runnerrpc

// MaxFrameBytes is the size of a piece of a body. Source: the runner protocol.
const MaxFrameBytes = 10_240

// requestIDKey is the metadata that carries a request's identifier. Source: the
// runner protocol.
const requestIDKey = "fn_request_id"
