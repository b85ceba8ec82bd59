package drivertest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const insidePage = `# Page

| read from inside | Docker | native |
|---|---|---|
| old |  | gone |
| user | 1000 |  |

Text.
`

func TestColumnIsWrittenAndRead(t *testing.T) {
	before, rows, after, err := cutTable(insidePage)
	if err != nil {
		t.Fatal(err)
	}
	page := before + writeColumn(rows, 2, "native 2", map[string]string{"user": "1001", "group": "5"}) + after
	const want = `# Page

| read from inside | Docker | native 2 |
|---|---|---|
| user | 1000 | 1001 |
| group |  | 5 |

Text.
`
	if diff := cmp.Diff(want, page); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, rows, _, err = cutTable(page); err != nil || rows[1][2] != "1001" {
		t.Errorf("read again: %q, %v", rows, err)
	}
}

func TestPageWithoutTheTableIsRefused(t *testing.T) {
	for _, page := range []string{"", "# Page\n", "| read from inside | a |\n|---|---|\n| b |\n"} {
		if _, _, _, err := cutTable(page); err == nil {
			t.Errorf("%q has a table", page)
		}
	}
}
