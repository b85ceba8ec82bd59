package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// environment is where and of what the figures are.
type environment struct {
	Date   time.Time `json:"date"`
	Commit string    `json:"commit,omitempty"` // with "+" if files differ from it
	Go     string    `json:"go"`
	Kernel string    `json:"kernel"`
	CPUs   int       `json:"cpus"`
	Quick  bool      `json:"quick"`
}

func describeEnvironment(ctx context.Context, quick bool, now time.Time) environment {
	e := environment{
		Date: now.UTC().Truncate(time.Second), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		Kernel: "unknown", CPUs: runtime.NumCPU(), Quick: quick,
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		e.Kernel = string(bytes.TrimSpace(release))
	}
	// A source tree without Git has no commit.
	if commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output(); err == nil {
		e.Commit = string(bytes.TrimSpace(commit))
		if changes, err := exec.CommandContext(ctx, "git", "--no-optional-locks", "status", "--porcelain").Output(); err != nil || len(changes) > 0 {
			e.Commit += "+"
		}
	}
	return e
}
