//go:build !linux

package docker

import "os"

func originOf(file *os.File) (string, error) { return deviceOf(file) }
