package config

import (
	"log/slog"
	"net/url"
	"strings"
)

// SecretURL is a URL that may have a password in it. Printing, logging and
// encoding it show the URL without; only Reveal has the password.
type SecretURL string

// Reveal returns the URL as it is.
func (u SecretURL) Reveal() string { return string(u) }

// String masks the password and parameters that look like one. What cannot be
// parsed is hidden completely, because nobody knows where its password is.
func (u SecretURL) String() string {
	parsed, err := url.Parse(string(u))
	if err != nil {
		return "[unreadable url]"
	}
	parameters := strings.Split(parsed.RawQuery, "&")
	for i, parameter := range parameters {
		name, _, _ := strings.Cut(parameter, "=")
		if soundsSecret(name) {
			parameters[i] = name + "=xxxxx"
		}
	}
	parsed.RawQuery = strings.Join(parameters, "&")
	return parsed.Redacted()
}

// GoString is what %#v prints.
func (u SecretURL) GoString() string { return u.String() }

// LogValue is what package slog prints.
func (u SecretURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText is what encoders write.
func (u SecretURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

func soundsSecret(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"pass", "pwd", "secret", "token", "key"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
