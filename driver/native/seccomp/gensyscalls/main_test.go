package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTablesAreUpToDate(t *testing.T) {
	var want bytes.Buffer
	if err := write(&want); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../numbers.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("numbers.go is not up to date: run make generate")
	}
}
