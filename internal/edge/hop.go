package edge

import (
	"net/http"
	"strings"
)

// hopByHop are the headers that concern one connection only and are passed in
// neither direction; "Te: trailers" is the exception.
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// StripHopByHop removes hop-by-hop headers, also those that Connection names.
func StripHopByHop(header http.Header) {
	for _, list := range header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" && !strings.EqualFold(name, "Te") {
				header.Del(name)
			}
		}
	}
	trailers := len(header["Te"]) == 1 && header["Te"][0] == "trailers"
	for _, name := range hopByHop {
		if name != "Te" || !trailers {
			delete(header, name)
		}
	}
}
