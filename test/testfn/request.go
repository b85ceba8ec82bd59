package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// request is the JSON of a call. All fields are optional.
type request struct {
	SleepTime           int    `json:"sleepTime,omitempty"`           // ms before the answer
	PostSleepTime       int    `json:"postSleepTime,omitempty"`       // ms after the answer was written, before the call ends
	ResponseCode        int    `json:"responseCode,omitempty"`        // Fn-Http-Status, only seen through a trigger
	ResponseContentType string `json:"responseContentType,omitempty"` // default application/json
	JasonContentType    string `json:"jasonContentType,omitempty"`    // the same, of lower rank
	EchoContent         string `json:"echoContent,omitempty"`         // for trailerRepeat
	TrailerRepeat       int    `json:"trailerRepeat,omitempty"`       // how often echoContent is in the answer's trailer

	IsDebug    bool `json:"isDebug,omitempty"`    // logs the call, adds container names to the answer's data
	IsCrash    bool `json:"isCrash,omitempty"`    // ends the process with status 1
	IsExit     bool `json:"isExit,omitempty"`     // ends the process with exitCode
	ExitCode   int  `json:"exitCode,omitempty"`   //
	IsShutdown bool `json:"isShutdown,omitempty"` // stops serving after this call

	ReadFile       string `json:"readFile,omitempty"`       // path
	ReadFileSize   int    `json:"readFileSize,omitempty"`   // at most so many bytes of it
	CreateFile     string `json:"createFile,omitempty"`     // path
	CreateFileSize int64  `json:"createFileSize,omitempty"` // bytes, all written

	AllocateMemory int `json:"allocateMemory,omitempty"` // bytes, held until the next call
	LeakMemory     int `json:"leakMemory,omitempty"`     // bytes, held for ever

	InvalidResponse bool   `json:"invalidResponse,omitempty"` // writes a line of text before the JSON
	IsEmptyBody     bool   `json:"isEmptyBody,omitempty"`     // answers with no body
	PostOutGarbage  string `json:"postOutGarbage,omitempty"`  // written to the answer after the JSON
	PostErrGarbage  string `json:"postErrGarbage,omitempty"`  // written to standard error after the answer

	ExpectHeaders map[string][]string `json:"expectHeaders,omitempty"` // ends the process if a first value differs
	ReturnHeaders map[string][]string `json:"returnHeaders,omitempty"` // headers of the answer
}

// answer is the JSON that a call gets.
type answer struct {
	Request request           `json:"request"`
	Header  http.Header       `json:"header"`            // as a Go function kit shows it
	Config  map[string]string `json:"config"`            // the environment
	Data    map[string]string `json:"data"`              // what the request asked to find out
	Trailer []string          `json:"trailer,omitempty"` // echoContent, trailerRepeat times
}

const gatewayPrefix = "Fn-Http-H-"

// throughTrigger reports whether the call came through an HTTP trigger, so
// that its answer carries HTTP's headers and status in capsules.
func throughTrigger(r *http.Request) bool { return r.Header.Get("Fn-Intent") == "httprequest" }

// parameter returns a header by its plain or its encapsulated name.
func parameter(r *http.Request, name string) string {
	if value := r.Header.Get(name); value != "" {
		return value
	}
	return r.Header.Get(gatewayPrefix + name)
}

// visibleHeader is what functions see: in a call through a trigger only the
// HTTP client's headers, by both names.
func visibleHeader(r *http.Request) http.Header {
	if !throughTrigger(r) {
		return r.Header
	}
	visible := http.Header{}
	for name, values := range r.Header {
		if plain, ok := strings.CutPrefix(name, gatewayPrefix); ok {
			visible[name] = values
			visible[http.CanonicalHeaderKey(plain)] = values
		}
	}
	return visible
}

// setHeader sets a header of the answer, encapsulated for a trigger.
func setHeader(w http.ResponseWriter, r *http.Request, name string, values ...string) {
	name = http.CanonicalHeaderKey(name)
	if throughTrigger(r) && name != "Content-Type" {
		name = gatewayPrefix + name
	}
	w.Header()[name] = values
}

// answerJSON serves a call of the JSON protocol.
func (f *fn) answerJSON(w http.ResponseWriter, r *http.Request) {
	logger := log.New(f.stderr, "", 0)
	if r.Header.Get("Fn-Deadline") == "" {
		logger.Print("the call has no deadline")
		f.exit(1)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the server went away
	}
	var req request
	if json.Unmarshal(body, &req) != nil {
		req = request{}
	}
	if req.IsDebug {
		logger.Print("BeginOfLogs")
		defer logger.Print("EndOfLogs")
	}
	header := visibleHeader(r)
	for name, values := range req.ExpectHeaders {
		if len(values) > 0 && header.Get(name) != values[0] {
			logger.Printf("header %s is %q and not %q", name, header.Get(name), values[0])
			f.exit(1)
			return
		}
	}
	time.Sleep(time.Duration(req.SleepTime) * time.Millisecond)
	switch {
	case req.IsCrash:
		logger.Print("crash on request")
		f.exit(1)
		return
	case req.IsExit:
		f.exit(req.ExitCode)
		return
	}
	f.takeMemory(req)
	f.writeAnswer(w, r, req, answer{
		Request: req, Header: header, Config: environment(f.environ), Data: f.collect(req),
		Trailer: repeat(req.EchoContent, req.TrailerRepeat),
	})
	if req.IsShutdown {
		f.stop()
	}
}

// writeAnswer writes the answer with its garbage.
func (f *fn) writeAnswer(w http.ResponseWriter, r *http.Request, req request, a answer) {
	w.Header().Set("Fn-Fdk-Version", "testfn/1")
	w.Header().Set("Content-Type", "application/json")
	for _, contentType := range []string{req.JasonContentType, req.ResponseContentType} {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
	}
	for name, values := range req.ReturnHeaders {
		setHeader(w, r, name, values...)
	}
	if req.ResponseCode != 0 && throughTrigger(r) {
		w.Header().Set("Fn-Http-Status", strconv.Itoa(req.ResponseCode))
	}
	if !req.IsEmptyBody {
		if req.InvalidResponse {
			fmt.Fprintln(w, "this line is not JSON")
		}
		if err := json.NewEncoder(w).Encode(a); err != nil {
			return // the server went away
		}
	}
	time.Sleep(time.Duration(req.PostSleepTime) * time.Millisecond)
	fmt.Fprint(w, req.PostOutGarbage)
	fmt.Fprint(f.stderr, req.PostErrGarbage)
}

// takeMemory lets go what the call before held and takes what this one wants.
func (f *fn) takeMemory(req request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = nil
	if req.AllocateMemory > 0 {
		f.held = fill(req.AllocateMemory)
	}
	if req.LeakMemory > 0 {
		f.leaked = append(f.leaked, fill(req.LeakMemory))
	}
}

// collect does the file work of a request. Errors are data.
func (f *fn) collect(req request) map[string]string {
	data := map[string]string{}
	if req.IsDebug {
		hostname, err := os.Hostname()
		if err != nil {
			hostname = err.Error()
		}
		data["DockerHostname"] = hostname
		data["DockerId"] = containerID()
	}
	if req.ReadFile != "" {
		content, err := readPrefix(req.ReadFile, req.ReadFileSize)
		if err != nil {
			data[req.ReadFile+".read_error"] = err.Error()
		} else {
			data[req.ReadFile+".read_output"] = content
		}
	}
	if req.CreateFile != "" {
		if err := createFile(req.CreateFile, req.CreateFileSize); err != nil {
			data[req.CreateFile+".create_error"] = err.Error()
		}
	}
	return data
}

// readPrefix reads a file, or its first limit bytes if limit is not 0.
func readPrefix(path string, limit int) (string, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // it was only read
	var from io.Reader = file
	if limit > 0 {
		from = io.LimitReader(file, int64(limit))
	}
	content, err := io.ReadAll(from)
	return string(content), err
}

// createFile writes size bytes, not a hole, so that quotas count them.
func createFile(path string, size int64) (err error) {
	file, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	block := []byte(strings.Repeat("x", 64<<10))
	for size > 0 {
		n, err := file.Write(block[:min(size, int64(len(block)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func repeat(text string, n int) []string {
	var list []string
	for range n {
		list = append(list, text)
	}
	return list
}

func environment(environ []string) map[string]string {
	config := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		config[name] = value
	}
	return config
}
