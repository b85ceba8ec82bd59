// The hello-go function answers {"name":"Ada"} with {"message":"Hello Ada"}.
package main

import (
	"context"
	"encoding/json"
	"io"
	"log"

	fdk "github.com/fnproject/fdk-go"
)

func main() {
	fdk.Handle(fdk.HandlerFunc(hello))
}

type greeting struct {
	Message string `json:"message"`
}

func hello(_ context.Context, in io.Reader, out io.Writer) {
	request := struct {
		Name string `json:"name"`
	}{Name: "World"}
	// A body that is empty or not JSON greets the world.
	if err := json.NewDecoder(in).Decode(&request); err != nil && err != io.EOF {
		log.Printf("ignoring the request body: %v", err)
	}
	fdk.SetHeader(out, "Content-Type", "application/json")
	if err := json.NewEncoder(out).Encode(greeting{Message: "Hello " + request.Name}); err != nil {
		log.Printf("write the answer: %v", err)
	}
}
