package config

import (
	"errors"
	"net/url"
	"time"
)

// LoadBalancer is about a node that executes calls on others.
type LoadBalancer struct {
	APIURL     string // of the node that keeps definitions, scheme and host only
	APITimeout time.Duration
	APIRetries int
	APICA      string // path; empty: the system's authorities
	APICert    string // path; empty: none is shown
	APIKey     string

	StaleFor      time.Duration // 0: not at all
	StalePatience time.Duration
	Definitions   int // of each kind that are remembered

	Headroom time.Duration // 0: no limit
}

// maxRetries is far more than what ends within the timeout.
const maxRetries = 20

// lbSettings are those of load balancers, except for how runners are found, chosen
// and talked to.
var lbSettings = []Setting{
	{
		"FN_RUNNER_API_URL", groupLB, "http or https URL", "",
		"Address of the node that keeps the definitions; a path in it is ignored. A load balancer needs it.", secret(apiURL, maskURL),
	},
	{
		"FN_RUNNER_API_TIMEOUT", groupLB, formDuration, "60s",
		"For one request to that node; 0 is the default.", duration(func(c *Config) *time.Duration { return &c.LB.APITimeout }),
	},
	{
		"FN_RUNNER_API_RETRIES", groupLB, "whole number from 0 to 20", "5",
		"How often a request that it did not answer, or with 5xx, is repeated, after a random pause of 25 to 75 ms, which doubles each time.",
		between(0, maxRetries, func(c *Config, n int) { c.LB.APIRetries = n }),
	},
	{
		"FN_RUNNER_API_TLS_CA", groupLB, "path", "",
		"Authorities, PEM, that its certificate is verified with. Default: the system's.", text(func(c *Config) *string { return &c.LB.APICA }),
	},
	{
		"FN_RUNNER_API_TLS_CERT", groupLB, "path", "",
		"Certificate, PEM, that is shown to it. It and its key are read again for each connection. Default: none.", text(func(c *Config) *string { return &c.LB.APICert }),
	},
	{
		"FN_RUNNER_API_TLS_KEY", groupLB, "path", "",
		"Its private key, PEM.", text(func(c *Config) *string { return &c.LB.APIKey }),
	},
	{
		"FN_STALE_DEFINITIONS", groupLB, formDuration, "1h",
		"How long definitions that are known are used on while that node does not answer, beyond the five seconds for which it is not asked again; 0 is not at all. What it says is gone is gone.",
		duration(func(c *Config) *time.Duration { return &c.LB.StaleFor }),
	},
	{
		"FN_STALE_PATIENCE", groupLB, formDuration, "500ms",
		"How long a call waits for its answer before a definition is used on that is known. Once it is known not to answer, calls do not wait.",
		duration(func(c *Config) *time.Duration { return &c.LB.StalePatience }),
	},
	{
		"FN_MAX_KNOWN_DEFINITIONS", groupLB, "whole number from 1", "10000",
		"How many apps, functions and triggers are remembered, of each.", positive(func(c *Config, n int64) { c.LB.Definitions = int(n) }),
	},
	{
		"FN_EXECUTION_HEADROOM", groupLB, formMillis, "360000",
		"A detached call may take this, the time for placing it and its function's timeout all together.", millis(func(c *Config) *time.Duration { return &c.LB.Headroom }),
	},
}

// apiURL keeps scheme and host, as Fn does: its users have set all kinds of paths.
func apiURL(c *Config, value string) error {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("it is not an http or https URL")
	case u.User != nil:
		return errors.New("a user in it is not supported")
	}
	c.LB.APIURL = u.Scheme + "://" + u.Host
	return nil
}
