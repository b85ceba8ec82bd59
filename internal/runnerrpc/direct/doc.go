// Package direct carries the calls of the runner protocol between Tine's own nodes
// without HTTP/2: each call has a connection for itself, which is used again for
// the next one, so that whoever makes a call writes and reads by itself, on both
// sides. A call takes a third of what it takes over gRPC, most of which is the way
// between goroutines that share a connection.
//
// This is only how frames travel; what is in them, package runnerrpc knows. [Pool] is the
// load balancer's side of one runner, [Server] the runner's. Nothing depends on it: a peer
// that does not know it is spoken to over gRPC, and so is one to which there are too many
// connections.
//
// # On the wire
//
// Connections go to the port of the runner protocol. With TLS they are told from
// those of gRPC by ALPN ([ALPN]), without it by their first byte, which is not that
// of HTTP/2. A connection begins with one of two greetings of the same length,
// which have the version of this format. The runner sends it back when it has
// accepted the connection, and only then a call is sent: what comes to a runner that
// has ended meanwhile would be lost. It goes on with frames:
//
//	length of what follows, 4 bytes, the most significant first
//	kind, 1 byte
//	content
//
// On a connection for calls, the end of a call comes last from the runner:
//
//	'e'  1 if the connection can be used again, else 0; the code of gRPC's status with
//	     which the stream ends, 4 bytes; its text
//
// There is one more connection, the link, as long as connections for calls are used.
// The load balancer sends 'p' from time to time, which the runner sends back: a
// runner that does not is lost, and all calls on it with it. A runner that will end
// sends 'g': the load balancer closes connections without a call then, and the link when
// the last call has ended.
package direct

// ALPN is the name of the format, with its version.
const ALPN = "tine-calls/1"

// The greetings.
const (
	greetCalls = "TINE/1 calls"
	greetLink  = "TINE/1 links"
)

// Offer is what load balancers and runners tell each other over gRPC that they know, the
// version of this format, in the metadata MetadataKey of a call and its answer.
const (
	MetadataKey = "tine-direct"
	Offer       = "1"
)
