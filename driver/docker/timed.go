package docker

import (
	"context"
	"time"

	"github.com/moby/moby/client"
)

// timed is the engine's client with a watch: it tells Options.Observe how long
// each request took. Those that take as long as a container lives, or an image
// is pulled, are timed where they are made.
type timed struct {
	*client.Client
	observe func(api string, took time.Duration, err error)
}

// measure makes a request and tells what it took. The names are Fn's.
func measure[T any](t *timed, api string, request func() (T, error)) (T, error) {
	began := time.Now()
	result, err := request()
	t.observe(api, time.Since(began), err)
	return result, err
}

func (t *timed) ContainerCreate(ctx context.Context, options client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
	return measure(t, "docker_create_container", func() (client.ContainerCreateResult, error) {
		return t.Client.ContainerCreate(ctx, options)
	})
}

func (t *timed) ContainerStart(ctx context.Context, id string, options client.ContainerStartOptions) (client.ContainerStartResult, error) {
	return measure(t, "docker_start_container", func() (client.ContainerStartResult, error) {
		return t.Client.ContainerStart(ctx, id, options)
	})
}

func (t *timed) ContainerAttach(ctx context.Context, id string, options client.ContainerAttachOptions) (client.ContainerAttachResult, error) {
	return measure(t, "docker_attach_container", func() (client.ContainerAttachResult, error) {
		return t.Client.ContainerAttach(ctx, id, options)
	})
}

func (t *timed) ContainerInspect(ctx context.Context, id string, options client.ContainerInspectOptions) (client.ContainerInspectResult, error) {
	return measure(t, "docker_inspect_container", func() (client.ContainerInspectResult, error) {
		return t.Client.ContainerInspect(ctx, id, options)
	})
}

func (t *timed) ContainerPause(ctx context.Context, id string, options client.ContainerPauseOptions) (client.ContainerPauseResult, error) {
	return measure(t, "docker_pause_container", func() (client.ContainerPauseResult, error) {
		return t.Client.ContainerPause(ctx, id, options)
	})
}

func (t *timed) ContainerUnpause(ctx context.Context, id string, options client.ContainerUnpauseOptions) (client.ContainerUnpauseResult, error) {
	return measure(t, "docker_unpause_container", func() (client.ContainerUnpauseResult, error) {
		return t.Client.ContainerUnpause(ctx, id, options)
	})
}

func (t *timed) ContainerStop(ctx context.Context, id string, options client.ContainerStopOptions) (client.ContainerStopResult, error) {
	return measure(t, "docker_stop_container", func() (client.ContainerStopResult, error) {
		return t.Client.ContainerStop(ctx, id, options)
	})
}

func (t *timed) ContainerKill(ctx context.Context, id string, options client.ContainerKillOptions) (client.ContainerKillResult, error) {
	return measure(t, "docker_kill_container", func() (client.ContainerKillResult, error) {
		return t.Client.ContainerKill(ctx, id, options)
	})
}

func (t *timed) ContainerRemove(ctx context.Context, id string, options client.ContainerRemoveOptions) (client.ContainerRemoveResult, error) {
	return measure(t, "docker_remove_container", func() (client.ContainerRemoveResult, error) {
		return t.Client.ContainerRemove(ctx, id, options)
	})
}

func (t *timed) ContainerList(ctx context.Context, options client.ContainerListOptions) (client.ContainerListResult, error) {
	return measure(t, "docker_list_containers", func() (client.ContainerListResult, error) {
		return t.Client.ContainerList(ctx, options)
	})
}

func (t *timed) ImageInspect(ctx context.Context, image string, options ...client.ImageInspectOption) (client.ImageInspectResult, error) {
	return measure(t, "docker_inspect_image", func() (client.ImageInspectResult, error) {
		return t.Client.ImageInspect(ctx, image, options...)
	})
}

func (t *timed) DistributionInspect(ctx context.Context, image string, options client.DistributionInspectOptions) (client.DistributionInspectResult, error) {
	return measure(t, "docker_distribution_inspect", func() (client.DistributionInspectResult, error) {
		return t.Client.DistributionInspect(ctx, image, options)
	})
}

func (t *timed) ImageList(ctx context.Context, options client.ImageListOptions) (client.ImageListResult, error) {
	return measure(t, "docker_list_images", func() (client.ImageListResult, error) {
		return t.Client.ImageList(ctx, options)
	})
}

func (t *timed) ImageRemove(ctx context.Context, image string, options client.ImageRemoveOptions) (client.ImageRemoveResult, error) {
	return measure(t, "docker_remove_image", func() (client.ImageRemoveResult, error) {
		return t.Client.ImageRemove(ctx, image, options)
	})
}

func (t *timed) DiskUsage(ctx context.Context, options client.DiskUsageOptions) (client.DiskUsageResult, error) {
	return measure(t, "docker_disk_usage", func() (client.DiskUsageResult, error) {
		return t.Client.DiskUsage(ctx, options)
	})
}

func (t *timed) Info(ctx context.Context, options client.InfoOptions) (client.SystemInfoResult, error) {
	return measure(t, "docker_info", func() (client.SystemInfoResult, error) { return t.Client.Info(ctx, options) })
}
