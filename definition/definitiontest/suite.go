// Package definitiontest is the suite that every [definition.Store] passes, for
// programs with a store of their own.
package definitiontest

import (
	"testing"

	"github.com/tinefn/tine/definition"
	"github.com/tinefn/tine/internal/store/storetest"
)

// Run checks what the interfaces promise, a subtest for each rule. open returns an
// empty store and has the test close it; it is called for each of them, also in
// parallel.
func Run(t *testing.T, open func(t *testing.T) definition.Store) { storetest.Run(t, open) }
