package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
	"time"
)

var errNoNginx = errors.New("nginx, the yardstick of this row, is missing: run apt-get install nginx-light, or use -install as root")

// findNginx returns the path of nginx, which it installs if it may.
func findNginx(ctx context.Context, install bool) (string, error) {
	path, err := lookUpNginx()
	if err == nil || !install {
		return path, err
	}
	if err := installPackages(ctx, "nginx-light"); err != nil {
		return "", err
	}
	return lookUpNginx()
}

// lookUpNginx also looks where Debian puts it, which is not in every PATH.
func lookUpNginx() (string, error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoNginx
}

// yardstick is nginx before the instances of a node, which it calls by the same
// sockets as the node does. So what differs is only what stands before them.
type yardstick struct {
	*process
	address string // host:port
}

// yardstickPath is what clients call. The function sees /call, as it does in a
// container.
const yardstickPath = "/invoke/bench"

// nginxConfig makes nginx as good a yardstick as it can be: workers share their
// counts of connections (zone), and connections are kept on both sides for as
// long as nginx allows.
var nginxConfig = template.Must(template.New("").Parse(`daemon off;
{{if .User}}user {{.User}};
{{end}}worker_processes {{.Workers}};
pid {{.Dir}}/pid;
error_log stderr warn;
events {
	worker_connections 1024;
}
http {
	access_log off;
	keepalive_requests 1000000000;
	client_body_temp_path {{.Dir}}/client;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	upstream function {
		zone function 256k;
		least_conn;
{{range .Sockets}}		server unix:{{.}};
{{end}}		keepalive 128;
		keepalive_requests 1000000000;
	}
	server {
		listen {{.Address}};
		location = {{.Path}} {
			proxy_pass http://function/call;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			# What functions get with each call by their contract.
			proxy_set_header Fn-Call-Id $request_id;
			proxy_set_header Fn-Deadline 2100-01-01T00:00:00Z;
		}
	}
}
`))

type nginxValues struct {
	User, Dir, Address, Path string
	Workers                  int
	Sockets                  []string
}

// startYardstick starts nginx, with a worker for each processor, before the
// functions that listen on these sockets.
func (b *bench) startYardstick(ctx context.Context, sockets []string) (y *yardstick, err error) {
	dir, err := b.makeDir()
	if err != nil {
		return nil, err
	}
	values := nginxValues{Dir: dir, Path: yardstickPath, Workers: runtime.NumCPU(), Sockets: sockets}
	if os.Geteuid() == 0 {
		values.User = "root" // the directory is only ours
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	values.Address = "127.0.0.1:" + port
	return startNginx(ctx, b.nginx, values)
}

func startNginx(ctx context.Context, program string, values nginxValues) (*yardstick, error) {
	var config strings.Builder
	if err := nginxConfig.Execute(&config, values); err != nil {
		return nil, err
	}
	path := filepath.Join(values.Dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
		return nil, err
	}
	p, err := startProcess("nginx", filepath.Join(values.Dir, "log"), exec.Command(program, "-c", path, "-p", values.Dir))
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, 5*time.Millisecond, func() (bool, error) {
		conn, err := net.Dial("tcp", values.Address)
		if err != nil {
			return false, nil // not yet
		}
		return true, conn.Close()
	})
	if err != nil {
		_ = p.stop() // why it does not serve is known
		return nil, err
	}
	return &yardstick{process: p, address: values.Address}, nil
}
