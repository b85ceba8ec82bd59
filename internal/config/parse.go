package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Forms that several settings share.
const (
	formBytes     = "whole number of bytes from 0"
	formSomeBytes = "whole number of bytes above 0"
	formSomeTime  = "duration above 0 like 500ms, 30s or 2m, or whole seconds"
	formDuration  = "duration like 500ms, 30s or 2m, or whole seconds"
	formMillis    = "whole number of milliseconds, negative for no limit"
	formBool      = "true or false"
	formPercent   = "whole number from 1 to 100"

	formInstances = "whole number from 0 to 10000"
	formPoolSize  = "whole number from 0 to 1000"
	formNames     = "list of names, separated by spaces or commas"
	formWords     = "words separated by spaces"
)

// maxPreforkPool is about what one bridge has room for.
const maxPreforkPool = 1000

// maxInstances is the largest number that annotations accept too.
const maxInstances = 10_000

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		*field(c) = value
		return nil
	}
}

// list accepts commas and white space between the items.
func list(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, value string) error {
		*field(c) = strings.FieldsFunc(value, separates)
		return nil
	}
}

// separates tells what is between the items of a list.
func separates(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }

// words accepts white space between the items and nothing else.
func words(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, value string) error {
		*field(c) = strings.Fields(value)
		return nil
	}
}

func whole(set func(*Config, int64)) func(*Config, string) error { return number(0, set) }

func positive(set func(*Config, int64)) func(*Config, string) error { return number(1, set) }

func scale(set func(*Config, int)) func(*Config, string) error {
	return between(0, maxInstances, set)
}

func percent(set func(*Config, int)) func(*Config, string) error { return between(1, 100, set) }

func between(least, most int, set func(*Config, int)) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil {
			return errors.New("it is not a whole number")
		}
		if n < least || n > most {
			return fmt.Errorf("it is not from %d to %d", least, most)
		}
		set(c, n)
		return nil
	}
}

func number(least int64, set func(*Config, int64)) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return errors.New("it is not a whole number")
		}
		if n < least {
			return fmt.Errorf("it is below %d", least)
		}
		set(c, n)
		return nil
	}
}

func boolean(set func(*Config, bool)) func(*Config, string) error {
	return func(c *Config, value string) error {
		b, err := strconv.ParseBool(strings.TrimSpace(value))
		if err != nil {
			return errors.New("it is neither true nor false")
		}
		set(c, b)
		return nil
	}
}

func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		d, err := parseDuration(strings.TrimSpace(value))
		if err != nil {
			return err
		}
		*field(c) = d
		return nil
	}
}

func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if seconds, numErr := strconv.ParseInt(value, 10, 64); numErr == nil {
		if seconds > math.MaxInt64/int64(time.Second) {
			return 0, errors.New("it is too long")
		}
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil {
		return 0, errors.New("it is not a duration")
	}
	if d < 0 {
		return 0, errors.New("it is negative")
	}
	return d, nil
}

// millis accepts milliseconds; a negative number, or one too large for a
// duration, means no limit, which is 0 here.
func millis(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		value = strings.TrimSpace(value)
		n, err := strconv.ParseInt(value, 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			n, err = -1, nil
		}
		if err != nil {
			return errors.New("it is not a whole number")
		}
		d := time.Duration(0)
		switch {
		case n == 0:
			d = time.Nanosecond // no time at all, unlike no limit
		case n > 0 && n <= math.MaxInt64/int64(time.Millisecond):
			d = time.Duration(n) * time.Millisecond
		}
		*field(c) = d
		return nil
	}
}

// freezeAfter keeps a negative number, for never.
func freezeAfter(c *Config, value string) error {
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return errors.New("it is not a whole number")
	}
	if n < 0 || n > math.MaxInt64/int64(time.Millisecond) {
		n = -1
	}
	c.Runner.FreezeAfter = time.Duration(n) * time.Millisecond
	return nil
}

func nodeType(c *Config, value string) error {
	switch value {
	case NodeFull, NodeAPI, NodeLB, NodeRunner:
		c.NodeType = value
		return nil
	}
	return errors.New("there is no such node type")
}

// databaseURL only checks the form: which databases there are is the store's
// business.
func databaseURL(c *Config, value string) error {
	if scheme, rest, ok := strings.Cut(value, "://"); !ok || scheme == "" || rest == "" {
		return errors.New("it is not a URL")
	}
	c.Store.URL = SecretURL(value)
	return nil
}

func port(c *Config, value string) error {
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
	if err != nil {
		return errors.New("it is not a port")
	}
	c.HTTP.Port = int(n)
	return nil
}

func publicURL(c *Config, value string) error {
	u, err := url.Parse(value)
	if value != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("it is not an http or https URL")
	}
	c.HTTP.PublicURL = value
	return nil
}

func driverName(c *Config, value string) error {
	switch value {
	case DriverAuto, DriverDocker, DriverNative:
		c.Engine.Driver = value
		return nil
	}
	return errors.New("there is no such driver")
}

// warning is an error that does not keep the server from starting: the
// setting's default is used.
type warning struct{ error }

// secret is for settings whose values are not for logs: of a value that is
// refused, the complaint shows what mask leaves of it.
func secret(parse func(*Config, string) error, mask func(string) string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if err := parse(c, value); err != nil {
			return maskedError{err, mask(value)}
		}
		return nil
	}
}

// maskedError is about a secret value.
type maskedError struct {
	error
	shown string // instead of the value
}

func (e maskedError) Unwrap() error { return e.error }

func maskAll(string) string { return "[hidden]" }

// maskURL shows what cannot have a password: of what is not a URL, nobody can
// tell which part of it that is.
func maskURL(value string) string {
	if strings.Contains(value, "@") {
		return maskAll(value)
	}
	return value
}

func logFormat(c *Config, value string) error {
	value = strings.ToLower(value)
	if !slices.Contains([]string{"text", "json"}, value) {
		return warning{errors.New("there is no such format")}
	}
	c.Log.Format = value
	return nil
}

// logLevels are the words that Fn knows. Levels beyond slog's own are the
// nearest one, trace is below debug.
var logLevels = map[string]slog.Level{
	"panic": slog.LevelError, "fatal": slog.LevelError, "error": slog.LevelError,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "info": slog.LevelInfo,
	"debug": slog.LevelDebug, "trace": slog.LevelDebug - 4,
}

func logLevel(c *Config, value string) error {
	level, ok := logLevels[strings.ToLower(value)]
	if !ok {
		return warning{errors.New("there is no such level")}
	}
	c.Log.Level = level
	return nil
}

func logDest(c *Config, value string) error {
	u, err := url.Parse(value)
	switch {
	case value == "stderr":
	case err == nil && u.Scheme == "file" && u.Path != "":
	case err == nil && (u.Scheme == "udp" || u.Scheme == "tcp"):
		return warning{errors.New("this version cannot log to syslog yet")}
	default:
		return warning{errors.New("it is no place for a log")}
	}
	c.Log.Dest = value
	return nil
}

// preforkPoolSize is Fn's one number, of a pool that does not grow.
func preforkPoolSize(c *Config, value string) error {
	return between(0, maxPreforkPool, func(c *Config, n int) {
		if c.Engine.Prefork.Min = n; n == 0 {
			c.Engine.Prefork.Max = 0
		}
	})(c, value)
}

// preforkLeast turns the pool on again that Fn's name has turned off.
func preforkLeast(c *Config, value string) error {
	return between(0, maxPreforkPool, func(c *Config, n int) {
		if c.Engine.Prefork.Min = n; n > 0 && c.Engine.Prefork.Max == 0 {
			c.Engine.Prefork.Max = PreforkAuto
		}
	})(c, value)
}

// poolSize reads a size that may depend on the machine.
func poolSize(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		if value == "auto" {
			*field(c) = PreforkAuto
			return nil
		}
		return between(0, maxPreforkPool, func(c *Config, n int) { *field(c) = n })(c, value)
	}
}

// dockerAuth keeps the text for the driver, which knows its form, and refuses what
// cannot be right.
func dockerAuth(c *Config, value string) error {
	if !json.Valid([]byte(value)) {
		return errors.New("it is not JSON")
	}
	c.Engine.Auth = []byte(value)
	return nil
}
