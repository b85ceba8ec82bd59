package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tinefn/tine/internal/pool"
)

// levels are what a pool can be asked for at any time.
type levels struct {
	pool *pool.Pool

	containers                         map[string]*prometheus.Desc // by Fn's name of a state
	waiting                            *prometheus.Desc
	held                               *prometheus.Desc // also by state
	cpuUsed, cpuFree, memUsed, memFree *prometheus.Desc
}

// RegisterLevels exports how many instances and callers there are, and how much
// of the machine is reserved.
func RegisterLevels(registry prometheus.Registerer, p *pool.Pool) {
	desc := func(namespace, name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	l := &levels{
		pool: p, containers: map[string]*prometheus.Desc{},
		waiting: desc(tineNamespace, "queue_callers", "Callers in line for an instance.", functionLabels...),
		held: desc(tineNamespace, "instance_memory_bytes", "Memory that instances hold, as their control groups count it, without copies of files.",
			append(slices.Clone(functionLabels), "state")...),
		cpuUsed: desc(namespace, "util_cpu_used", "Reserved processor time, in thousandths of a processor."),
		cpuFree: desc(namespace, "util_cpu_avail", "Processor time that is not reserved."),
		memUsed: desc(namespace, "util_mem_used", "Reserved memory, in bytes."),
		memFree: desc(namespace, "util_mem_avail", "Memory that is not reserved."),
	}
	for _, state := range []string{"wait", "start", "idle", "paused", "busy"} {
		l.containers[state] = desc(namespace, "container_"+state+"_total", "Instances in state "+state+".", functionLabels...)
	}
	registry.MustRegister(l)
}

func (l *levels) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range l.containers {
		descs <- desc
	}
	for _, desc := range []*prometheus.Desc{l.waiting, l.held, l.cpuUsed, l.cpuFree, l.memUsed, l.memFree} {
		descs <- desc
	}
}

// Collect adds up the specs of a function, as there may be an old and a new one.
func (l *levels) Collect(metrics chan<- prometheus.Metric) {
	counts := map[labels]*pool.Counts{}
	l.pool.Each(func(spec *pool.Spec, c pool.Counts) {
		of := labels{spec.AppID, spec.FnID, spec.Container.Image}
		if counts[of] == nil && len(counts) >= maxFunctions {
			of = labels{other, other, other}
		}
		if counts[of] == nil {
			counts[of] = &pool.Counts{}
		}
		counts[of].Add(c)
	})
	send := func(desc *prometheus.Desc, value float64, values ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, values...)
	}
	for of, c := range counts {
		for state, n := range map[string]int{"wait": c.Starved, "start": c.Launching, "idle": c.Idle, "paused": c.Frozen, "busy": c.Busy} {
			send(l.containers[state], float64(n), of.values()...)
		}
		send(l.waiting, float64(c.Waiting), of.values()...)
	}
	l.collectHeld(counts, send)
	stats := l.pool.Stats()
	send(l.cpuUsed, float64(stats.Used.MilliCPU))
	send(l.cpuFree, float64(stats.Total.MilliCPU-stats.Used.MilliCPU))
	send(l.memUsed, float64(stats.Used.MemoryBytes))
	send(l.memFree, float64(stats.Total.MemoryBytes-stats.Used.MemoryBytes))
}

// collectHeld adds up what instances hold, where the driver can tell. Functions that
// have come since they were counted are left for the next time.
func (l *levels) collectHeld(counted map[labels]*pool.Counts, send func(desc *prometheus.Desc, value float64, values ...string)) {
	type place struct {
		of    labels
		state string
	}
	held := map[place]int64{}
	l.pool.HeldMemory(func(spec *pool.Spec, state pool.State, bytes int64) {
		of := labels{spec.AppID, spec.FnID, spec.Container.Image}
		if counted[of] == nil {
			of = labels{other, other, other}
		}
		held[place{of, stateNames[state]}] += bytes
	})
	for at, bytes := range held {
		if counted[at.of] != nil {
			send(l.held, float64(bytes), append(at.of.values(), at.state)...)
		}
	}
}
