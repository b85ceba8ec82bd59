package config

import "time"

// preforkSettings has Fn's names before the better ones, which win where both
// are given.
var preforkSettings = []Setting{
	{
		"FN_EXPERIMENTAL_PREFORK_POOL_SIZE", groupPrefork, formPoolSize, "",
		"Fn's name: 0 turns the pool off, another number is FN_PREFORK_MIN.", preforkPoolSize,
	},
	{
		"FN_EXPERIMENTAL_PREFORK_IMAGE", groupPrefork, "name of an image", "",
		"Fn's name of FN_PREFORK_IMAGE.", text(func(c *Config) *string { return &c.Engine.Prefork.Image }),
	},
	{
		"FN_EXPERIMENTAL_PREFORK_CMD", groupPrefork, formWords, "",
		"Fn's name of FN_PREFORK_CMD.", words(func(c *Config) *[]string { return &c.Engine.Prefork.Command }),
	},
	{
		"FN_EXPERIMENTAL_PREFORK_USE_ONCE", groupPrefork, "0 or another whole number", "",
		"Fn's name of FN_PREFORK_USE_ONCE.", number(0, func(c *Config, n int64) { c.Engine.Prefork.UseOnce = n != 0 }),
	},
	{
		"FN_EXPERIMENTAL_PREFORK_NETWORKS", groupPrefork, formNames, "",
		"Fn's name of FN_PREFORK_NETWORKS.", list(func(c *Config) *[]string { return &c.Engine.Prefork.Networks }),
	},
	{
		"FN_PREFORK_MIN", groupPrefork, formPoolSize, "",
		"Network namespaces that are kept ready, for containers to start in. More are kept for a while after there were not enough. Default: 5.",
		preforkLeast,
	},
	{
		"FN_PREFORK_MAX", groupPrefork, "auto or " + formPoolSize, "",
		"Network namespaces at most, those in use included; 0 turns the pool off. Default: auto, which takes a twentieth of the memory for functions, for 64 at most.", poolSize(func(c *Config) *int { return &c.Engine.Prefork.Max }),
	},
	{
		"FN_PREFORK_NETWORKS", groupPrefork, formNames, "",
		"Networks to make the namespaces in. Default: FN_DOCKER_NETWORKS.", list(func(c *Config) *[]string { return &c.Engine.Prefork.Networks }),
	},
	{
		"FN_PREFORK_USE_ONCE", groupPrefork, formBool, "",
		"Use no namespace again. By default the containers of the app that used it, and no others, may. Default: false.",
		boolean(func(c *Config, b bool) { c.Engine.Prefork.UseOnce = b }),
	},
	{
		"FN_PREFORK_QUARANTINE", groupPrefork, formDuration, "1m",
		"How long a namespace rests before its app uses it again; the kernel keeps closed connections for a minute.",
		duration(func(c *Config) *time.Duration { return &c.Engine.Prefork.Quarantine }),
	},
	{
		"FN_PREFORK_KEEP", groupPrefork, formDuration, "5m",
		"How long a namespace that was used is kept for its app after that.",
		duration(func(c *Config) *time.Duration { return &c.Engine.Prefork.KeepUsed }),
	},
	{
		"FN_PREFORK_IMAGE", groupPrefork, "name of an image", "",
		"Image of the containers that hold the namespaces. Default: a built-in one with a program that sleeps.",
		text(func(c *Config) *string { return &c.Engine.Prefork.Image }),
	},
	{
		"FN_PREFORK_CMD", groupPrefork, formWords, "",
		"Command of FN_PREFORK_IMAGE, which must not end. Default: " + preforkCommand + ".",
		words(func(c *Config) *[]string { return &c.Engine.Prefork.Command }),
	},
}
