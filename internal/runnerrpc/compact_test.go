package runnerrpc

import (
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tinefn/tine/internal/runnerrpc/direct"
	"github.com/tinefn/tine/internal/runnerrpc/runnerpb"
	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// testNumber is that of the definition of newCall.
const testNumber = 3

// receiver is a runner's side of a connection on which that definition has come.
func receiver(t testing.TB, made *definitions) *directServerStream {
	t.Helper()
	text, err := new(encodedDefinitions).of(testApp, testFn)
	if err != nil {
		t.Fatal(err)
	}
	d := &directServerStream{ServerStream: &direct.ServerStream{}, definitions: made}
	if err := d.define(append([]byte{testNumber}, text...)); err != nil {
		t.Fatal(err)
	}
	return d
}

// calls are of all kinds that a load balancer may send.
func calls() map[string]*invoke.Call {
	all := map[string]*invoke.Call{}
	with := func(name string, change func(*invoke.Call)) {
		call := newCall("hello")
		change(call)
		all[name] = call
	}
	with("usual", func(*invoke.Call) {})
	with("all flags", func(c *invoke.Call) {
		c.Detached, c.Container.NoNetwork, c.Trigger = true, true, &model.Trigger{ID: "trigger-id"}
	})
	with("slot and extensions", func(c *invoke.Call) {
		c.Slot, c.Extensions = "0123abcd", map[string]string{"k": "v", "empty": "", "": "nameless", "long": strings.Repeat("x", 1000)}
	})
	with("headers", func(c *invoke.Call) {
		c.Header = http.Header{
			"X-Two": {"1", "2"}, "x-lower": {"a", "b", "a"}, "X-UPPER": {"c"}, "X-Empty": {""}, "X-Empties": {"", "", "x"}, "X-None": {}, "X-Nil": nil,
			"X-Text": {"\"quoted\" \\ ä € \t \u2028"}, "X-Long": {strings.Repeat("y", 70_000)},
		}
	})
	with("no headers", func(c *invoke.Call) { c.Header = nil })
	with("headers of one connection", func(c *invoke.Call) {
		c.Header = http.Header{
			"connection": {"X-Named, Close"}, "X-Named": {"1"}, "Keep-Alive": {"1"}, "Proxy-Authorization": {"p"}, "te": {"trailers"}, "Upgrade": {"h2c"}, "X-Stays": {"1"},
		}
	})
	with("length that the header has wrong", func(c *invoke.Call) { c.Header.Set("Content-Length", "7") })
	with("unknown length", func(c *invoke.Call) { c.ContentLength = -1 })
	with("no body", func(c *invoke.Call) { c.ContentLength = 0 })
	with("largest numbers", func(c *invoke.Call) {
		c.ContentLength, c.Container = math.MaxInt64, invoke.Container{MilliCPU: maxMilliCPU, TmpMiB: math.MaxUint32}
	})
	with("numbers above the limits", func(c *invoke.Call) {
		c.Container = invoke.Container{MilliCPU: math.MaxInt64, TmpMiB: math.MaxInt64}
	})
	with("negative numbers", func(c *invoke.Call) {
		c.ContentLength, c.Container = math.MinInt64, invoke.Container{MilliCPU: -1, TmpMiB: math.MinInt64}
	})
	return all
}

// What is read at the runner must not depend on the way.
func TestCallIsTheSameInBothForms(t *testing.T) {
	for name, call := range calls() {
		var made definitions
		got, id, err := readCall(appendCall(nil, call, testNumber, "rid"), receiver(t, &made).definition)
		if err != nil || id != "rid" {
			t.Errorf("%s: %q, %v", name, id, err)
			continue
		}
		text, err := new(encodedDefinitions).encode(call)
		if err != nil {
			t.Fatal(err)
		}
		overGRPC := grpcServerStream{definitions: &made, try: &runnerpb.TryCall{ModelsCallJson: text, SlotHashId: call.Slot, Extensions: call.Extensions}}
		want, err := overGRPC.call()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-gRPC +direct)\n%s", name, diff)
		}
		if got.App != want.App || got.Fn != want.Fn {
			t.Errorf("%s: equal definitions are two", name)
		}
	}
}

func TestCallKeepsAllOfItsFieldsInTheCompactForm(t *testing.T) {
	call := newCall("hello")
	call.Detached, call.Slot, call.Extensions, call.Trigger = true, "abcd", map[string]string{"k": "v", "": ""}, &model.Trigger{ID: "trigger-id"}
	call.Container = invoke.Container{TmpMiB: 7, MilliCPU: 250, NoNetwork: true}
	call.Header = http.Header{"x-two": {"1", "", "2"}, "Upgrade": {"h2c"}}
	d := receiver(t, &definitions{})
	got, id, err := readCall(appendCall(nil, call, testNumber, ""), d.definition)
	if err != nil || id != "" {
		t.Fatal(id, err)
	}
	of, _ := d.definition(testNumber)
	want := &invoke.Call{
		ID: call.ID, App: of.app, Fn: of.fn, Trigger: &model.Trigger{ID: "trigger-id", AppID: "app-id", FnID: "fn-id"}, Detached: true,
		Slot: "abcd", Extensions: call.Extensions, Container: call.Container, Body: http.NoBody, ContentLength: 5,
		Header: http.Header{"X-Two": {"1", "", "2"}, "Content-Length": {"5"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if of.fn.Image != "example/image:1" || of.fn.Config["BOTH"] != "fn" || of.app.Name != "app" {
		t.Errorf("the definition is %+v of %+v", of.fn, of.app)
	}
	if call.Header.Get("Content-Length") != "" || call.Header.Get("Upgrade") == "" {
		t.Error("the call's own header has changed")
	}
}

// Fields that come twice under names that differ in case are one, and do not get into each
// other's values.
func TestFieldsOfOneNameAreMerged(t *testing.T) {
	b := []byte{4}
	for _, field := range [][2]string{{"x-a", "1"}, {"X-B", "2"}, {"X-A", "3"}, {"x-b", "4"}} {
		b = appendText(append(appendText(b, field[0]), 1), field[1])
	}
	c := compact{left: string(b)}
	if diff := cmp.Diff(http.Header{"X-A": {"1", "3"}, "X-B": {"2", "4"}}, c.header()); diff != "" || c.failed {
		t.Errorf("failed: %v (-want +got)\n%s", c.failed, diff)
	}
}

// Each of very many fields must not cost what all before it have.
func TestManyFieldsOfOneNameTakeNoTime(t *testing.T) {
	const fields = 200_000
	b := binary.AppendUvarint(nil, fields)
	for range fields {
		b = appendText(append(appendText(b, "A"), 1), "")
	}
	began := time.Now()
	c := compact{left: string(b)}
	if header := c.header(); c.failed || len(header["A"]) != fields {
		t.Errorf("got %d values, failed: %v", len(header["A"]), c.failed)
	}
	if d := time.Since(began); d > patience {
		t.Errorf("it took %v", d)
	}
}

var testEnding = ending{
	success: true, code: 504, text: "Timed out", user: true,
	queued: 1, execution: math.MaxInt64, image: 300 * time.Hour, prep: 4, create: 5, init: 6,
}

func TestAnswersKeepAllOfTheirFieldsInTheCompactForm(t *testing.T) {
	header := http.Header{"X-A": {"1", "", "2"}, "Content-Length": {"7"}, "X-Text": {"ä\xff"}}
	got, err := readStart(appendStart(nil, 200, header))
	if diff := cmp.Diff(header, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if got, err = readStart(appendStart(nil, 202, nil)); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, e := range []ending{testEnding, {}, {success: true}, {user: true}, {code: 599}} {
		if got, err := readEnding(appendEnding(nil, &e)); err != nil || got != e {
			t.Errorf("got %+v, %v, want %+v", got, err, e)
		}
	}
	// A clock that was set back makes no time that cannot be sent, nor does a text.
	odd := ending{queued: -1, execution: math.MinInt64, text: "a\xffb"}
	if got, err := readEnding(appendEnding(nil, &odd)); err != nil || got != (ending{text: "a\uFFFDb"}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// damaged calls read with all that may become of a text: every part of it that lacks the
// end, and every one with another byte.
func damaged(good []byte, read func(content []byte, cut bool)) {
	for n := range good {
		read(good[:n], true)
		for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, good[n] ^ 1} {
			changed := append([]byte(nil), good...)
			changed[n] = b
			read(changed, false)
		}
	}
}

func TestDamagedTextsAreErrors(t *testing.T) {
	d := receiver(t, &definitions{})
	call := calls()["all flags"]
	call.Slot, call.Extensions = "abcd", map[string]string{"k": "v"}
	damaged(appendCall(nil, call, testNumber, "rid"), func(content []byte, cut bool) {
		got, _, err := readCall(content, d.definition)
		if (got == nil) != (err != nil) || cut && err == nil {
			t.Errorf("%x is read as %+v, %v", content, got, err)
		}
	})
	damaged(appendStart(nil, 200, http.Header{"X-A": {"1", "2"}, "X-B": {"3"}}), func(content []byte, cut bool) {
		if got, err := readStart(content); cut && !errors.Is(err, errCompact) || err != nil && got != nil {
			t.Errorf("%x is read as %v, %v", content, got, err)
		}
	})
	damaged(appendEnding(nil, &testEnding), func(content []byte, cut bool) {
		if got, err := readEnding(content); cut && !errors.Is(err, errCompact) || err != nil && got != (ending{}) {
			t.Errorf("%x is read as %v, %v", content, got, err)
		}
	})
}

func TestNumbersThatNobodySendsAreErrors(t *testing.T) {
	for _, n := range []uint64{0, 127, 128, math.MaxUint32, math.MaxInt64} {
		c := compact{left: string(binary.AppendUvarint(nil, n)) + "x"}
		if got := c.number(); got != n || c.failed || c.left != "x" {
			t.Errorf("%d is read as %d, %v", n, got, c.failed)
		}
	}
	for _, text := range []string{
		"", "\x80", string(binary.AppendUvarint(nil, 1<<63)), string(binary.AppendUvarint(nil, math.MaxUint64)), strings.Repeat("\xff", 30) + "\x01",
	} {
		c := compact{left: text + ""}
		if got := c.number(); got != 0 || !c.failed || c.left != "" {
			t.Errorf("%x is read as %d", text, got)
		}
	}
}

// A few bytes must not claim memory for what cannot follow.
func TestCountsAreBoundedByWhatIsThere(t *testing.T) {
	many := string(binary.AppendUvarint(nil, 1<<40)) + "abc"
	for name, read := range map[string]func(*compact) bool{
		"text":   func(c *compact) bool { return c.text() == "" },
		"count":  func(c *compact) bool { return c.count() == 0 },
		"header": func(c *compact) bool { return len(c.header()) == 0 },
	} {
		c := compact{left: many}
		if !read(&c) || !c.failed {
			t.Errorf("%s: it is accepted", name)
		}
	}
}

func TestCallsThatMakeNoSenseAreRefusedInTheCompactForm(t *testing.T) {
	d := receiver(t, &definitions{})
	for name, id := range map[string]string{
		"none": "", "blank": "a b", "break": "a\nb", "not ASCII": "ä", "too long": strings.Repeat("x", maxCallText+1),
	} {
		call := newCall("")
		call.ID = id
		if got, _, err := readCall(appendCall(nil, call, testNumber, ""), d.definition); !errors.Is(err, errNoIdentifier) {
			t.Errorf("identifier, %s: got %+v, %v", name, got, err)
		}
	}
	longest := newCall("")
	longest.ID = strings.Repeat("x", maxCallText)
	if _, _, err := readCall(appendCall(nil, longest, testNumber, ""), d.definition); err != nil {
		t.Error(err)
	}
	for number, want := range map[int]string{testNumber + 1: "number 4, was not sent", connectionDefinitions: "number 256, was not sent"} {
		if got, _, err := readCall(appendCall(nil, newCall(""), number, ""), d.definition); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("definition %d: got %+v, %v", number, got, err)
		}
	}
	// A load balancer that does not keep to the limits: number, flags, length, CPU, /tmp.
	rest := appendCall(nil, newCall(""), testNumber, "")[len("\x03\x04\x00\x00\x00"):]
	for want, numbers := range map[string][2]uint64{"": {maxMilliCPU, math.MaxUint32}, "cpus": {maxMilliCPU + 1, 0}, "tmp": {0, math.MaxUint32 + 1}} {
		b := []byte{testNumber, flagLength, 0}
		b = binary.AppendUvarint(binary.AppendUvarint(b, numbers[0]), numbers[1])
		_, _, err := readCall(append(b, rest...), d.definition)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v", numbers, err)
		}
	}
}

func TestDefinitionsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, content := range map[string]string{
		"empty":          "",
		"no number":      "\x80",
		"large number":   string(binary.AppendUvarint(nil, connectionDefinitions)) + `"image":"x"`,
		"no JSON":        "\x03image",
		"no image":       "\x03" + `"fn_id":"x"`,
		"negative time":  "\x03" + `"image":"x","timeout":-1`,
		"two objects":    "\x03" + `"image":"x"},{"image":"y"`,
		"identifier":     "\x03" + `"image":"x","fn_id":"` + strings.Repeat("x", maxCallText+1) + `"`,
		"text as number": "\x03" + `"image":"x","memory":"1"`,
	} {
		d := receiver(t, &definitions{})
		if err := d.define([]byte(content)); err == nil {
			t.Errorf("%s is accepted", name)
		}
		// What had its number must not be taken for it.
		if of, ok := d.definition(testNumber); ok && strings.HasPrefix(content, "\x03") {
			t.Errorf("%s: its number is still that of %+v", name, of.fn)
		}
	}
}
