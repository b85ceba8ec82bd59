package docker

import (
	"context"
	"log/slog"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/client"

	"github.com/tinefn/tine/internal/imageaccess"
)

// pullAPI is Fn's name for a pull.
const pullAPI = "docker_pull_image"

// registries are reached by way of the engine.
type registries struct{ driver *Driver }

var _ imageaccess.Registry = registries{}

func (r registries) Digest(ctx context.Context, named reference.Named, who imageaccess.Puller) (string, error) {
	answer, err := r.driver.engine.DistributionInspect(ctx, named.String(), client.DistributionInspectOptions{EncodedRegistryAuth: who.Header()})
	if err != nil {
		return "", err
	}
	return answer.Descriptor.Digest.String(), nil
}

func (r registries) Pull(ctx context.Context, asked string, _ reference.Named, who imageaccess.Puller, log *slog.Logger) error {
	began := time.Now()
	report, err := r.driver.engine.ImagePull(ctx, asked, client.ImagePullOptions{RegistryAuth: who.Header()})
	if err == nil {
		err = follow(ctx, report.JSONMessages(ctx), log)
	}
	r.driver.opts.Observe(pullAPI, time.Since(began), err)
	return err
}

func (registries) Refusal(err error) imageaccess.Refusal {
	return imageaccess.Refusal{Status: pullStatus(err), Message: message(err), Passing: passing(err), Lost: engineLost(err)}
}
