package docker

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/driver"
)

func TestSpecTranslation(t *testing.T) {
	tests := map[string]struct {
		opts    Options
		spec    driver.Spec
		network string
		want    client.ContainerCreateOptions
	}{
		"nothing special": {
			spec: driver.Spec{ID: "c", Image: "i"},
			want: client.ContainerCreateOptions{
				Name:       "c",
				Config:     &container.Config{Image: "i", Labels: map[string]string{"tine.instance": "one"}},
				HostConfig: &container.HostConfig{LogConfig: container.LogConfig{Type: "none"}, NetworkMode: "default"},
			},
		},
		"all of it": {
			opts:    Options{LabelTag: "tag", Runtime: "runc"},
			network: "net1",
			spec: driver.Spec{
				ID: "c", Image: "i", ImageID: "sha256:1", Env: []string{"A=1"}, Command: []string{"x", "y"}, Labels: map[string]string{"l": "v", "tine.instance": "a lie"},
				SocketDir: "/sockets/c", Hostname: "host", Runtime: "crun",
				Limits: driver.Limits{
					MemoryBytes: 128 << 20, MilliCPU: 1500, Processes: 50, DiskMiB: 10, TmpMiB: 5, TmpInodes: 6,
					OpenFiles: 1, LockedMemoryBytes: 2, PendingSignals: 3, MessageQueueBytes: 4,
				},
				Security: driver.Security{Unprivileged: true, ReadOnlyRoot: true, Init: true},
			},
			want: client.ContainerCreateOptions{
				Name: "c",
				Config: &container.Config{
					Image: "sha256:1", Env: []string{"A=1"}, Cmd: []string{"x", "y"}, User: "1000:1000", Hostname: "host",
					Labels: map[string]string{"l": "v", "tine.instance": "one", "fn-agent-classifier": "tag", "fn-agent-instance": "one", "tine.image": "i"},
				},
				HostConfig: &container.HostConfig{
					LogConfig:   container.LogConfig{Type: "none"},
					NetworkMode: "net1", ReadonlyRootfs: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
					Init: new(true), Runtime: "crun", Tmpfs: map[string]string{"/tmp": "mode=1777,size=5m,nr_inodes=6"},
					StorageOpt: map[string]string{"size": "10M"},
					Mounts:     []mount.Mount{{Type: mount.TypeBind, Source: "/sockets/c", Target: "/tmp/iofs"}},
					Resources: container.Resources{
						Memory: 128 << 20, MemorySwap: 128 << 20, CPUPeriod: 100000, CPUQuota: 150000, PidsLimit: new(int64(50)),
						Ulimits: []*container.Ulimit{
							{Name: "nofile", Soft: 1, Hard: 1},
							{Name: "memlock", Soft: 2, Hard: 2},
							{Name: "sigpending", Soft: 3, Hard: 3},
							{Name: "msgqueue", Soft: 4, Hard: 4},
						},
					},
				},
			},
		},
		"no network beats a network, little memory is the engine's least": {
			network: "net1",
			spec:    driver.Spec{ID: "c", Security: driver.Security{NoNetwork: true}, Limits: driver.Limits{MemoryBytes: 1, TmpInodes: 5}},
			want: client.ContainerCreateOptions{
				Name:   "c",
				Config: &container.Config{Labels: map[string]string{"tine.instance": "one"}},
				HostConfig: &container.HostConfig{
					LogConfig: container.LogConfig{Type: "none"}, NetworkMode: "none",
					Resources: container.Resources{Memory: 6 << 20, MemorySwap: 6 << 20},
				},
			},
		},
		"no host name of its own in the host's network": {
			network: "host",
			spec:    driver.Spec{ID: "c", Hostname: "host"},
			want: client.ContainerCreateOptions{
				Name:       "c",
				Config:     &container.Config{Labels: map[string]string{"tine.instance": "one"}},
				HostConfig: &container.HostConfig{LogConfig: container.LogConfig{Type: "none"}, NetworkMode: "host"},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := &Driver{opts: tt.opts, instance: "one"}
			if tt.network != "" {
				d.networks = networks{names: []string{tt.network}, use: make([]int, 1)}
			}
			mode := d.connect(&engineContainer{driver: d, spec: &tt.spec}).mode
			got, err := d.createOptions(t.Context(), &tt.spec, mode)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestLeastUsedNetworkIsTaken(t *testing.T) {
	n := networks{names: []string{"a", "b"}, use: make([]int, 2)}
	var got []string
	for range 3 {
		got = append(got, n.take())
	}
	n.giveBack("b")
	got = append(got, n.take())
	if diff := cmp.Diff([]string{"a", "b", "a", "b"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := (&networks{}).take(); got != "" {
		t.Errorf("took %q of no networks", got)
	}
}
