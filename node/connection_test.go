package node

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/internal/config"
)

func connected(rpc config.RPC) *Node {
	return &Node{config: &config.Config{RPC: rpc}, log: slog.New(slog.DiscardHandler)}
}

func TestSettingsOfConnectionsToRunners(t *testing.T) {
	opts, err := connected(config.RPC{ConnectTimeout: time.Second, KeepAliveTimeout: 3 * time.Second, MaxMessageBytes: 7}).runnerClients()
	if err != nil || opts.TLS != nil || opts.ConnectTimeout != time.Second || opts.KeepAliveIdle != -1 || opts.KeepAliveTimeout != 3*time.Second || opts.MaxMessageBytes != 7 {
		t.Errorf("got %+v, %v", opts, err)
	}
	connection, err := connected(config.RPC{KeepAliveIdle: time.Minute}).runnerConnection()
	if err != nil || connection.TLS != nil || connection.KeepAliveIdle != time.Minute {
		t.Errorf("got %+v, %v", connection, err)
	}
	for want, rpc := range map[string]config.RPC{
		"without FN_RUNNER_TLS_CA": {RunnerCert: "/none"},
		"FN_RUNNER_TLS_CA,":        {RunnerCA: "/none"},
	} {
		if _, err := connected(rpc).runnerClients(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v", rpc, err)
		}
	}
	for want, rpc := range map[string]config.RPC{
		"without FN_GRPC_TLS_CERT": {ClientCA: "/none"},
		"FN_GRPC_TLS_CERT,":        {Cert: "/none", Key: "/none"},
	} {
		if _, err := connected(rpc).runnerConnection(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v", rpc, err)
		}
	}
}
