// The test function in Go: see ../kits.go for what it does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	fdk "github.com/fnproject/fdk-go"
)

func main() {
	log.SetOutput(io.Discard) // the trace of the panic, which must not look like one of the server
	fdk.Handle(fdk.HandlerFunc(handle))
}

func handle(ctx context.Context, in io.Reader, out io.Writer) {
	var ask struct {
		Print, Echo     string
		Fail            bool
		SleepMs, Status int
	}
	if err := json.NewDecoder(in).Decode(&ask); err != nil && !errors.Is(err, io.EOF) {
		panic(err)
	}
	if ask.Print != "" {
		fmt.Println(ask.Print)
	}
	if ask.Fail {
		panic("the test wants it to fail")
	}
	time.Sleep(time.Duration(ask.SleepMs) * time.Millisecond)
	call := fdk.GetContext(ctx)
	answer := map[string]string{"language": "go", "echo": ask.Echo, "callID": call.CallID()}
	if request, ok := call.(fdk.HTTPContext); ok {
		answer["method"], answer["url"], answer["client"] = request.RequestMethod(), request.RequestURL(), request.Header().Get("X-Client")
		if ask.Status != 0 {
			fdk.WriteStatus(out, ask.Status)
		}
	}
	fdk.SetHeader(out, "X-Language", "go")
	fdk.SetHeader(out, "Content-Type", "application/json")
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		panic(err)
	}
}
