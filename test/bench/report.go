package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that a run found out.
type report struct {
	environment
	Lines []line `json:"lines"`
}

// line is what was measured of one variant of a row.
type line struct {
	Row       string  `json:"row"`
	Variant   string  `json:"variant"`
	N         int     `json:"n"`
	Unit      string  `json:"unit"` // of the next three
	Median    float64 `json:"median"`
	P95       float64 `json:"p95"`
	P99       float64 `json:"p99"`
	PerSecond float64 `json:"perSecond,omitempty"` // 0: means nothing here
	Checks    []check `json:"checks,omitempty"`
}

// check holds a figure against its target.
type check struct {
	What  string  `json:"what"`
	Got   float64 `json:"got"`
	Unit  string  `json:"unit"`  // "x" for a ratio to the yardstick
	Sense string  `json:"sense"` // "<=" or ">="; empty: no target
	Bound float64 `json:"bound"`
	Met   bool    `json:"met"`
}

func atMost(what string, got, bound float64, unit string) check {
	return check{what, got, unit, "<=", bound, got <= bound}
}

func atLeast(what string, got, bound float64, unit string) check {
	return check{what, got, unit, ">=", bound, got >= bound}
}

// note is a figure without a target.
func note(what string, got float64, unit string) check {
	return check{What: what, Got: got, Unit: unit, Met: true}
}

// valuesLine describes a sample of values.
func valuesLine(variant, unit string, values []float64, checks ...check) line {
	s := summarize(values)
	return line{Variant: variant, N: s.n, Unit: unit, Median: s.median, P95: s.p95, P99: s.p99, Checks: checks}
}

// latencyLine describes a sample of latencies.
func latencyLine(variant string, latencies []time.Duration, checks ...check) line {
	return valuesLine(variant, "ms", milliseconds(latencies), checks...)
}

// loadLine describes what was served under load.
func loadLine(variant string, o outcome, checks ...check) line {
	l := latencyLine(variant, o.served, checks...)
	l.PerSecond = o.perSecond()
	return l
}

func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintf(w, "%s  commit %s  %s  Linux %s  %d CPUs\n", r.Date.Format(time.DateTime), orDash(r.Commit), r.Go, r.Kernel, r.CPUs)
	if r.Quick {
		fmt.Fprintln(w, "A quick run: the figures mean little.")
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "row\tvariant\tn\tmedian\tp95\tp99\tper second\tratio or value\ttarget\tmet")
	for _, l := range r.Lines {
		fmt.Fprintln(table, strings.Join(l.cells(), "\t"))
	}
	return table.Flush()
}

// cells are the columns of the table. A single value has no percentiles.
func (l line) cells() []string {
	cells := []string{l.Row, l.Variant, fmt.Sprint(l.N), "-", "-", "-", "-"}
	if l.N > 0 {
		cells[3] = number(l.Median) + unit(l.Unit)
	}
	if l.N > 1 {
		cells[4], cells[5] = number(l.P95)+unit(l.Unit), number(l.P99)+unit(l.Unit)
	}
	if l.PerSecond > 0 {
		cells[6] = number(l.PerSecond)
	}
	var got, target, met []string
	for _, c := range l.Checks {
		got = append(got, c.What+" "+number(c.Got)+unit(c.Unit))
		if c.Sense == "" {
			continue
		}
		target = append(target, c.Sense+" "+number(c.Bound)+unit(c.Unit))
		met = append(met, map[bool]string{true: "yes", false: "NO"}[c.Met])
	}
	for _, list := range [][]string{got, target, met} {
		cells = append(cells, orDash(strings.Join(list, ", ")))
	}
	return cells
}

// number has three digits that count, and no decimal point where there are more.
func number(v float64) string {
	switch {
	case v == float64(int64(v)), v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10 || v <= -10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v <= -1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// unit is written behind a number; ratios have theirs without a space.
func unit(name string) string {
	switch name {
	case "", "x":
		return name
	}
	return " " + name
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (r *report) writeJSON(path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o600)
}
