package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinefn/tine/test/functions"
)

// frozenGroups counts the control groups of the native driver's sandboxes that the
// kernel says are frozen.
func frozenGroups(t *testing.T, n *node) (count int) {
	t.Helper()
	for _, dir := range n.groups(t) {
		for name, line := range map[string]string{"freezer.state": "FROZEN", "cgroup.events": "frozen 1"} {
			files, err := filepath.Glob(dir + "/*/" + name)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err == nil && slices.Contains(strings.Split(string(text), "\n"), line) {
					count++
				}
			}
		}
	}
	return count
}

// TestStandbyInstanceIsStartedAndFrozenBeforeItsFirstCall holds for interpreters, whose
// start costs most: the first call waits for a thaw alone.
func TestStandbyInstanceIsStartedAndFrozenBeforeItsFirstCall(t *testing.T) {
	for _, tt := range []struct {
		language  functions.Language
		settings  map[string]string // for all functions
		change    object            // of this one
		atLeastMB int
	}{
		{functions.Node, nil, object{"annotations": object{"tine/min-instances": 1}}, 3},
		{functions.Python, map[string]string{"FN_MIN_INSTANCES": "1"}, nil, 2},
	} {
		t.Run(string(tt.language), func(t *testing.T) {
			settings := map[string]string{"FN_SANDBOX_SOCKETS_INODES": "0"} // so that its socket can be seen
			maps.Copy(settings, tt.settings)
			n := startNative(t, settings)
			image := functions.Example(t, tt.language)
			definition := object{"image": image, "memory": kitMemoryMiB}
			for key, value := range tt.change {
				definition[key] = value
			}
			id := n.fn(definition)
			function := `{app_id="` + n.appID + `",fn_id="` + id + `",image_name="` + image + `"`
			n.awaitMetric(t, "fn_container_paused_total"+function+"}", "1")
			sockets, err := filepath.Glob(filepath.Join(n.setting("FN_IOFS_PATH"), "*", "*", "lsnr.sock"))
			if err != nil || len(sockets) != 1 {
				t.Errorf("sockets %v, %v", sockets, err)
			}
			eventually(t, 5*time.Second, func() bool { return frozenGroups(t, n) == 1 }, func() string { return "the kernel shows no frozen group" })
			held, err := strconv.ParseFloat(n.metric("tine_instance_memory_bytes"+function+`,state="paused"}`), 64)
			if err != nil || held < float64(tt.atLeastMB<<20) || held > kitMemoryMiB<<20 {
				t.Errorf("it is said to hold %v bytes, %v", held, err)
			}
			t.Logf("an instance on standby holds %.1f MB", held/(1<<20))

			got := n.invoke(id, `{"name":"Ada"}`, nil)
			var answer struct{ Message string }
			if err := json.Unmarshal([]byte(got.body), &answer); err != nil || answer.Message != "Hello Ada" {
				t.Errorf("got %d %q", got.status, got.body)
			}
			for series, want := range map[string]string{
				"tine_thaw_seconds_count": "1", `tine_launches_total{result="ok"}`: "1",
				`tine_call_seconds_count{cold="false",part="total"}`: "1",
			} {
				if value := n.metric(series); value != want {
					t.Errorf("%s is %q, want %s", series, value, want)
				}
			}
			n.awaitMetric(t, "fn_container_paused_total"+function+"}", "1") // it rests again
			n.stopClean(t)
		})
	}
}
