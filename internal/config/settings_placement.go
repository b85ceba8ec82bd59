package config

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Placement is about which runners a load balancer has and which it gives a call.
type Placement struct {
	Addresses      []string // of runners, host names, and names of SRV records
	File           string   // with more of them; empty: none
	LookupInterval time.Duration
	LookupTimeout  time.Duration
	FileInterval   time.Duration
	DrainTimeout   time.Duration // for calls of runners that left

	Placer          string  // PlacerChoices, PlacerRing or PlacerNaive
	LoadFactor      float64 // of PlacerRing
	Timeout         time.Duration
	DetachedTimeout time.Duration
	RetryDelay      time.Duration
	MaxRetryDelay   time.Duration
	MaxBackoff      time.Duration
	ProbeInterval   time.Duration // 0: runners are not asked
	ProbeTimeout    time.Duration
	MaxKeptBody     int64 // bytes of a request
	MaxKeptBodies   int64 // of all together
}

// The placers.
const (
	PlacerChoices = "p2c"
	PlacerRing    = "ch"
	PlacerNaive   = "naive"
)

// placementSettings are those of load balancers about their runners.
var placementSettings = []Setting{
	{
		"FN_RUNNER_ADDRESSES", groupPlacement, "list of <host>:<port> or names of SRV records, separated by spaces or commas", "",
		"Where runners are. A host's name is looked up, and each of its addresses is a runner; IPv6 counts only where there is no IPv4. SRV records are named like `_fn._tcp.example.com`. Default: none.",
		runnerAddresses,
	},
	{
		"FN_RUNNER_FILE", groupPlacement, "path", "",
		"File with more of the same, one on each line, or as a JSON array of strings. It is read again when it changes. Default: none.",
		text(func(c *Config) *string { return &c.Placement.File }),
	},
	{
		"FN_RUNNER_FILE_INTERVAL", groupPlacement, formSomeTime, "1s",
		"How often the file is looked at.", longer(func(c *Config) *time.Duration { return &c.Placement.FileInterval }),
	},
	{
		"FN_RUNNER_LOOKUP_INTERVAL", groupPlacement, formSomeTime, "5s",
		"How often names are looked up again. What was found stays if that fails.", longer(func(c *Config) *time.Duration { return &c.Placement.LookupInterval }),
	},
	{
		"FN_RUNNER_LOOKUP_TIMEOUT", groupPlacement, formSomeTime, "5s",
		"How long a look-up may take, all servers together.", longer(func(c *Config) *time.Duration { return &c.Placement.LookupTimeout }),
	},
	{
		"FN_RUNNER_DRAIN_TIMEOUT", groupPlacement, formSomeTime, "10m",
		"How long the calls of a runner that is not named any more may take to finish.", longer(func(c *Config) *time.Duration { return &c.Placement.DrainTimeout }),
	},
	{
		"FN_RUNNER_STATUS_INTERVAL", groupPlacement, formDuration, "1s",
		"How often runners are asked how they are, by a call of their status image if they have one, and how many calls they have; 0 is never.", duration(func(c *Config) *time.Duration { return &c.Placement.ProbeInterval }),
	},
	{
		"FN_RUNNER_STATUS_TIMEOUT", groupPlacement, formSomeTime, "3s",
		"How long a runner may take to answer that, before it counts as failing.", longer(func(c *Config) *time.Duration { return &c.Placement.ProbeTimeout }),
	},
	{
		"FN_RUNNER_MAX_BACKOFF", groupPlacement, formSomeTime, "10s",
		"How long a runner that fails is left alone at most, while there are others. It begins with 100 ms.", longer(func(c *Config) *time.Duration { return &c.Placement.MaxBackoff }),
	},
	{
		"FN_PLACER", groupPlacement, "p2c, ch or naive", PlacerChoices,
		"How runners are chosen: `p2c`, the one of two that has less to do, among those that know the function; `ch`, by a consistent hash of the function with bounded load; `naive`, in turn from a random one on.",
		placerName,
	},
	{
		"FN_PLACER_LOAD_FACTOR", groupPlacement, "number above 1 and up to 100", "1.25",
		"With `ch`: how many times the mean load a runner may have until the next is preferred.", loadFactor,
	},
	{
		"FN_PLACER_TIMEOUT", groupPlacement, formSomeTime, "360s",
		"How long runners are tried for a call until it gets 503. A call that one took takes as long as it takes.", longer(func(c *Config) *time.Duration { return &c.Placement.Timeout }),
	},
	{
		"FN_PLACER_DETACHED_TIMEOUT", groupPlacement, formSomeTime, "30s",
		"The same for detached calls.", longer(func(c *Config) *time.Duration { return &c.Placement.DetachedTimeout }),
	},
	{
		"FN_PLACER_RETRY_DELAY", groupPlacement, formSomeTime, "10ms",
		"How long a call that no runner had room for waits until it tries them again, unless a call ends before; twice as long each time.", longer(func(c *Config) *time.Duration { return &c.Placement.RetryDelay }),
	},
	{
		"FN_PLACER_MAX_RETRY_DELAY", groupPlacement, formSomeTime, "250ms",
		"The longest such delay.", longer(func(c *Config) *time.Duration { return &c.Placement.MaxRetryDelay }),
	},
	{
		"FN_LB_MAX_KEPT_BODY", groupPlacement, formSomeBytes, "1048576",
		"How much of a request's body is kept to send it to another runner. A call of which more was read is not tried elsewhere.", positive(func(c *Config, n int64) { c.Placement.MaxKeptBody = n }),
	},
	{
		"FN_LB_MAX_KEPT_BODIES", groupPlacement, formSomeBytes, "268435456",
		"How much is kept of all requests together.", positive(func(c *Config, n int64) { c.Placement.MaxKeptBodies = n }),
	},
}

// longer is a duration that is not 0.
func longer(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		if err := duration(field)(c, value); err != nil {
			return err
		}
		if *field(c) == 0 {
			return errors.New("it is 0")
		}
		return nil
	}
}

// runnerAddresses checks what can be checked here: the load balancer reads them.
func runnerAddresses(c *Config, value string) error {
	addresses := strings.FieldsFunc(value, separates)
	for _, address := range addresses {
		if !strings.HasPrefix(address, "_") && !strings.Contains(address, ":") {
			return errors.New(strconv.Quote(address) + " has no port")
		}
	}
	c.Placement.Addresses = addresses
	return nil
}

func placerName(c *Config, value string) error {
	switch value = strings.ToLower(strings.TrimSpace(value)); value {
	case PlacerChoices, PlacerRing, PlacerNaive:
		c.Placement.Placer = value
		return nil
	}
	return errors.New("there is no such placer")
}

func loadFactor(c *Config, value string) error {
	factor, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(factor > 1 && factor <= 100) {
		return errors.New("it is no such number")
	}
	c.Placement.LoadFactor = factor
	return nil
}
