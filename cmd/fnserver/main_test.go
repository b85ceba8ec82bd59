package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	for name, test := range map[string]struct {
		args           []string
		environ        []string
		code           int
		stdout, stderr string
	}{
		"help":           {[]string{"--help"}, nil, exitOK, "FN_DB_URL", ""},
		"short help":     {[]string{"-h"}, nil, exitOK, "Usage: fnserver", ""},
		"version":        {[]string{"--version"}, nil, exitOK, "fnserver ", ""},
		"unknown flag":   {[]string{"--port", "1"}, nil, exitUsage, "", "settings are environment variables"},
		"argument":       {[]string{"start"}, nil, exitUsage, "", "settings are environment variables"},
		"doctor, more":   {[]string{"doctor", "now"}, nil, exitUsage, "", "settings are environment variables"},
		"doctor, wrong":  {[]string{"doctor"}, []string{"FN_PORT=x"}, exitFailure, "", "FN_PORT=\"x\""},
		"wrong settings": {nil, []string{"FN_PORT=x", "FN_NODE_TYPE=y"}, exitFailure, "", "FN_NODE_TYPE=\"y\""},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(test.args, test.environ, &stdout, &stderr); code != test.code {
				t.Errorf("code %d", code)
			}
			if !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("stdout %q\nstderr %q", stdout.String(), stderr.String())
			}
			if test.stdout == "" && stdout.Len() > 0 || test.stderr == "" && stderr.Len() > 0 {
				t.Errorf("too much said: stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}
}
