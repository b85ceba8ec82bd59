package driver

// Finding is what was found when a driver looked whether it can work on this
// machine.
type Finding struct {
	Subject  string // what was tried, in a few words
	Detail   string // what is there
	Err      error  // why it does not work, and what to do; nil: it does
	Optional bool   // the driver works without
}

// Works tells whether a driver can work that found this.
func Works(findings []Finding) bool {
	for _, found := range findings {
		if found.Err != nil && !found.Optional {
			return false
		}
	}
	return len(findings) > 0
}
