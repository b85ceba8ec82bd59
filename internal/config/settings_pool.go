package config

// poolSettings are those of whichever pool there is: of network namespaces, or of
// sandboxes.
var poolSettings = []Setting{
	{
		"FN_POOL_APP_SHARE", groupPool, formPercent, "75",
		"Percentage of what is ready that one app gets at most which uses a fair share of the pool or more already. The rest is for other apps. 100 is no bound.",
		percent(func(c *Config, n int) { c.Engine.Pool.AppShare = n }),
	},
	{
		"FN_POOL_CPU_PRESSURE", groupPool, formPercent, "80",
		"Nothing is made beforehand while processes of the machine waited for a processor in this percentage of the last ten seconds (/proc/pressure/cpu; where there is none, while the load is 2 for each processor). 100 is never.",
		percent(func(c *Config, n int) { c.Engine.Pool.CPUPercent = n }),
	},
	{
		"FN_POOL_MEMORY_PRESSURE", groupPool, formPercent, "10",
		"Likewise for memory (/proc/pressure/memory); and what is ready above the minimum is given up. 100 is never.",
		percent(func(c *Config, n int) { c.Engine.Pool.MemoryPercent = n }),
	},
	{
		"FN_POOL_MEMORY_RESERVE", groupPool, formBytes, "134217728",
		"Likewise while less memory than this is available.",
		whole(func(c *Config, n int64) { c.Engine.Pool.MinFreeBytes = n }),
	},
}
