// Gendocs writes the page about the settings to the file that it is given.
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/tinefn/tine/internal/config"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendocs FILE")
		os.Exit(2)
	}
	var page bytes.Buffer
	err := config.WriteMarkdown(&page)
	if err == nil {
		err = os.WriteFile(os.Args[1], page.Bytes(), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}
