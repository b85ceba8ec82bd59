package main

import (
	"bytes"
	"fmt"
	"strings"
)

// target is where load goes.
type target struct {
	address string // host:port
	request func(client, n int) []byte
}

// callTarget sends the same call again and again. The header lines end with
// CRLF each.
func callTarget(address, path, header string, body []byte) target {
	request := buildRequest("POST", path, header, body)
	return target{address, func(int, int) []byte { return request }}
}

func buildRequest(method, path, header string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: bench\r\n%sContent-Length: %d\r\n\r\n", method, path, header, len(body))
	b.Write(body)
	return b.Bytes()
}

// echo is the call that latencies are measured with: 100 bytes there and back,
// in one piece each, as most functions answer.
const echoHeader = "Content-Type: application/octet-stream\r\nTestfn-Mode: reply\r\n"

var echoBody = []byte(strings.Repeat("x", 100))

// delayHeader makes the function wait before it answers.
func delayHeader(milliseconds int) string {
	return fmt.Sprintf("Testfn-Mode: count\r\nTestfn-Delay-Ms: %d\r\n", milliseconds)
}
