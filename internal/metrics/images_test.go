package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/driver"
)

func TestImagesAreExported(t *testing.T) {
	registry := prometheus.NewRegistry()
	RegisterImages(registry, func() driver.ImageStats {
		return driver.ImageStats{Busy: 1, Idle: 2, BusyBytes: 3, IdleBytes: 4, MaxBytes: 5}
	})
	want(t, scrape(t, registry), "fn_image_cleaner_busy_img_count 1", "fn_image_cleaner_idle_img_count 2",
		"fn_image_cleaner_busy_img_size 3", "fn_image_cleaner_idle_img_size 4", "fn_image_cleaner_max_img_size 5")
}
