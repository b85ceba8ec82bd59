package drivertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/driver"
)

// WriteDocs is a variable with which CheckInside writes the page instead of
// comparing it.
const WriteDocs = "TINE_WRITE_DOCS"

// insideTitle begins the table that CheckInside looks for, and ends with the first
// column's name. A column of a driver has its title after that.
const insideTitle = "| read from inside |"

// CheckInside compares what a function sees of its container with the column of a
// table in a page: that the drivers fence in alike is to be seen there. The column
// is the one whose title begins with the given name, from 1; if the rest of the
// title is not what is given, the page is about another machine, and the test is
// skipped. It needs root and Images.Program must be the test function of this
// module.
func CheckInside(t *testing.T, newDriver func(t *testing.T) driver.Driver, images Images, page string, column int, title string) {
	s := &suite{T: t, images: images, newDriver: newDriver}
	got := facts(s)
	content, err := os.ReadFile(page)
	s.must("read the page", err)
	before, rows, after, err := cutTable(string(content))
	s.must("find the table in "+page, err)
	if os.Getenv(WriteDocs) != "" {
		s.must("write the page", os.WriteFile(page, []byte(before+writeColumn(rows, column, title, got)+after), 0o644)) //nolint:gosec // everybody reads it
		return
	}
	if rows[0][column] != title {
		t.Skipf("the page is about %q, this is %q", rows[0][column], title)
	}
	want := map[string]string{}
	for _, row := range rows[1:] {
		want[row[0]] = row[column]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s, column %q: run this test with %s=1 (-page +container)\n%s", page, title, WriteDocs, diff)
	}
}

// facts are what a function says of its container, beside another one.
func facts(s *suite) map[string]string {
	s.Helper()
	d := s.driver()
	startFn := func() string {
		dir := socketDir(s)
		spec := functionSpec(s, dir)
		spec.Security.NoNetwork = false
		spec.Hostname = "function-1"
		spec.Limits = driver.Limits{
			MemoryBytes: 64 << 20, MilliCPU: 500, Processes: 50, TmpMiB: 2, TmpInodes: 100,
			OpenFiles: 350, LockedMemoryBytes: 65536, PendingSignals: 5000, MessageQueueBytes: 819200,
		}
		s.start(d, spec)
		awaitSocket(s, dir)
		return dir
	}
	inside, other := startFn(), startFn()
	order, err := json.Marshal(newOutside(s, other).targets)
	s.must("say what to try", err)
	var got map[string]string
	s.must("understand what is seen", json.Unmarshal([]byte(call(s, inside, "facts", string(order))), &got))
	if len(got) == 0 {
		s.Fatal("nothing is seen")
	}
	return got
}

// cutTable splits a page around its table, and that into cells: the titles and the
// rows.
func cutTable(page string) (before string, rows [][]string, after string, err error) {
	start := strings.Index(page, insideTitle)
	if start < 0 {
		return "", nil, "", fmt.Errorf("no line begins with %q", insideTitle)
	}
	before, after = page[:start], page[start:]
	for number := 0; strings.HasPrefix(after, "|"); number++ {
		line, rest, _ := strings.Cut(after, "\n")
		after = rest
		if number == 1 {
			continue // the line below the titles
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if len(rows) > 0 && len(cells) != len(rows[0]) {
			return "", nil, "", fmt.Errorf("%q has %d cells", line, len(cells))
		}
		rows = append(rows, cells)
	}
	return before, rows, after, nil
}

// writeColumn is the table with another column, and rows for what it has.
func writeColumn(rows [][]string, column int, title string, values map[string]string) string {
	titles := slices.Clone(rows[0])
	titles[column] = title
	known := map[string][]string{}
	var names []string // those of the page in its order, then the others
	for _, row := range rows[1:] {
		if _, ok := values[row[0]]; ok {
			known[row[0]] = row
			names = append(names, row[0])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if known[name] == nil {
			names = append(names, name)
		}
	}
	var text strings.Builder
	line := func(cells []string) { text.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(titles)
	text.WriteString(strings.Repeat("|---", len(titles)) + "|\n")
	for _, name := range names {
		row := make([]string, len(titles))
		copy(row, known[name])
		row[0], row[column] = name, values[name]
		line(row)
	}
	return text.String()
}
