package direct

import (
	"crypto/tls"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Credentials are those by which a gRPC server that is given them shares its port with
// a [Server].
func Credentials(config *tls.Config, server *Server) credentials.TransportCredentials {
	if config == nil {
		return &plainShared{insecure.NewCredentials(), server}
	}
	config = config.Clone()
	config.NextProtos = append(config.NextProtos, ALPN)
	return &securedShared{credentials.NewTLS(config), server}
}

// plainShared tells connections apart by their first byte.
type plainShared struct {
	credentials.TransportCredentials
	server *Server
}

// ServerHandshake is called by gRPC for each connection, on a goroutine and with a
// deadline for it.
func (p *plainShared) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	first := make([]byte, 1, len(greetCalls))
	if _, err := io.ReadFull(c, first); err != nil {
		return nil, nil, err
	}
	if first[0] == greetCalls[0] {
		p.server.greet(c, c, first)
		return nil, nil, credentials.ErrConnDispatched
	}
	return p.TransportCredentials.ServerHandshake(&replayed{Conn: c, first: first})
}

func (p *plainShared) Clone() credentials.TransportCredentials {
	return &plainShared{p.TransportCredentials.Clone(), p.server}
}

// replayed is a connection whose first byte was read already.
type replayed struct {
	net.Conn
	first []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 || len(p) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	r.first = r.first[n:]
	return n, nil
}

// securedShared tells connections apart by what their TLS has agreed on.
type securedShared struct {
	credentials.TransportCredentials
	server *Server
}

// ServerHandshake is called by gRPC for each connection, on a goroutine and with a
// deadline for it.
func (s *securedShared) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := s.TransportCredentials.ServerHandshake(c)
	if err != nil {
		return nil, nil, err
	}
	if of, ok := info.(credentials.TLSInfo); ok && of.State.NegotiatedProtocol == ALPN {
		s.server.greet(secured, c, make([]byte, 0, len(greetCalls)))
		return nil, nil, credentials.ErrConnDispatched
	}
	return secured, info, nil
}

func (s *securedShared) Clone() credentials.TransportCredentials {
	return &securedShared{s.TransportCredentials.Clone(), s.server}
}
