package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/driver"
)

// images are what the cleaner of images found when it last looked.
type images struct {
	stats func() driver.ImageStats

	busyCount, busySize, idleCount, idleSize, maxSize *prometheus.Desc
}

// RegisterImages exports how many images there are that may be removed, and
// what they take.
func RegisterImages(registry prometheus.Registerer, stats func() driver.ImageStats) {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, nil, nil)
	}
	registry.MustRegister(&images{
		stats:     stats,
		busyCount: desc("image_cleaner_busy_img_count", "Images in use."),
		busySize:  desc("image_cleaner_busy_img_size", "Bytes of images in use."),
		idleCount: desc("image_cleaner_idle_img_count", "Images that may be removed."),
		idleSize:  desc("image_cleaner_idle_img_size", "Bytes of images that may be removed."),
		maxSize:   desc("image_cleaner_max_img_size", "Bytes that images may take, until some are removed."),
	})
}

func (i *images) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{i.busyCount, i.busySize, i.idleCount, i.idleSize, i.maxSize} {
		descs <- desc
	}
}

func (i *images) Collect(metrics chan<- prometheus.Metric) {
	stats := i.stats()
	for desc, value := range map[*prometheus.Desc]float64{
		i.busyCount: float64(stats.Busy), i.busySize: float64(stats.BusyBytes),
		i.idleCount: float64(stats.Idle), i.idleSize: float64(stats.IdleBytes),
		i.maxSize: float64(stats.MaxBytes),
	} {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
}
