package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tinefn/tine/client"
	"github.com/tinefn/tine/model"
)

// scripted is an API that fails as often as its list says.
type scripted struct {
	failures []error
	asked    []time.Time
}

func (s *scripted) fail() error {
	s.asked = append(s.asked, time.Now())
	if len(s.failures) == 0 {
		return nil
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return err
}

func (s *scripted) App(context.Context, string) (*model.App, error) {
	return &model.App{ID: "a"}, s.fail()
}

func (s *scripted) AppByName(context.Context, string) (*model.App, error) {
	return &model.App{ID: "a"}, s.fail()
}

func (s *scripted) Fn(context.Context, string) (*model.Fn, error) {
	return &model.Fn{ID: "f"}, s.fail()
}

func (s *scripted) TriggerBySource(context.Context, string, string, string) (*model.Trigger, error) {
	return &model.Trigger{ID: "t"}, s.fail()
}

func repeated(err error, times int) (list []error) {
	for range times {
		list = append(list, err)
	}
	return list
}

var (
	refused = errors.New("connection refused")
	broken  = &client.Error{Status: 500, Message: "internal server error"}
)

func TestQuestionsAreRepeatedWithGrowingPauses(t *testing.T) {
	for name, failure := range map[string]error{"transport": refused, "500": broken, "503": &client.Error{Status: 503}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := &scripted{failures: repeated(failure, 5)}
				if _, err := Remote(api, DefaultRetries).FnByID(t.Context(), "f"); err != nil {
					t.Fatalf("the sixth attempt was to succeed: %v", err)
				}
				for i := 1; i < len(api.asked); i++ {
					pause := api.asked[i].Sub(api.asked[i-1])
					if least, most := leastPause<<(i-1), mostPause<<(i-1); pause < least || pause > most {
						t.Errorf("pause %d is %v, not from %v to %v", i, pause, least, most)
					}
				}
				api = &scripted{failures: repeated(failure, 100)}
				_, err := Remote(api, DefaultRetries).FnByID(t.Context(), "f")
				if err == nil || len(api.asked) != 6 || !strings.Contains(err.Error(), "6 times") {
					t.Errorf("asked %d times, %v", len(api.asked), err)
				}
				if kind := model.Describe(err).Kind; kind != model.ErrInternal {
					t.Errorf("the caller sees %v", kind)
				}
			})
		})
	}
}

func TestRefusalsAreFinal(t *testing.T) {
	for name, test := range map[string]struct {
		failure error
		kind    model.Kind
	}{
		"no app":              {&client.Error{Status: 404, Message: "App not found"}, model.ErrAppNotFound},
		"no app of that name": {model.ErrAppNotFound, model.ErrAppNotFound},
		"no function":         {&client.Error{Status: 404, Message: "Fn not found"}, model.ErrFnNotFound},
		"no trigger":          {&client.Error{Status: 404, Message: "Trigger not found"}, model.ErrTriggerNotFound},
		"no such path":        {&client.Error{Status: 404, Message: "Path not found: GET /v2/fns/f"}, model.ErrInternal},
		"not an API":          {&client.Error{Status: 404}, model.ErrInternal},
		"not allowed":         {&client.Error{Status: 403, Message: "go away"}, model.ErrInternal},
	} {
		t.Run(name, func(t *testing.T) {
			api := &scripted{failures: repeated(test.failure, 9)}
			_, err := Remote(api, DefaultRetries).FnByID(t.Context(), "f")
			if got := model.Describe(err); got.Kind != test.kind || got.Text != test.kind.Error() || len(api.asked) != 1 {
				t.Errorf("got %v, %v after %d questions", got, err, len(api.asked))
			}
		})
	}
}

func TestBusyAPIMakesTheCallerWaitAsItSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := &client.Error{Status: 503, Message: "Timed out - server too busy", RetryAfter: 7 * time.Second}
		_, err := Remote(&scripted{failures: repeated(busy, 9)}, 1).AppByID(t.Context(), "a")
		if !errors.Is(err, model.ErrServerBusy) || model.RetryAfter(err) != 7*time.Second {
			t.Errorf("got %v", err)
		}
	})
}

func TestQuestionsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := Remote(&scripted{failures: repeated(refused, 100)}, 50).AppByID(ctx, "a"); err == nil || time.Since(began) != 100*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
	})
}

func TestNothingHasNoName(t *testing.T) {
	api := new(scripted)
	for want, err := range map[error]error{
		model.ErrFnNotFound: second(Remote(api, 0).FnByID(t.Context(), "")), model.ErrAppNotFound: second(Remote(api, 0).AppIDByName(t.Context(), "")),
	} {
		if !errors.Is(err, want) {
			t.Errorf("got %v", err)
		}
	}
	if len(api.asked) != 0 {
		t.Error("it was asked for")
	}
}

func second[T any](_ T, err error) error { return err }

// The look-ups as Fn's load balancers make them, over a wire.
func TestLookUpsOnTheWire(t *testing.T) {
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/v2/apps?name=shop":
			fmt.Fprint(w, `{"items":[{"id":"a1","name":"shop"}]}`)
		case "/v2/apps/a1":
			fmt.Fprint(w, `{"id":"a1","name":"shop","config":{"A":"1"}}`)
		case "/v2/fns/f1":
			fmt.Fprint(w, `{"id":"f1","app_id":"a1","image":"img","annotations":{"fnproject.io/fn/invokeEndpoint":"http://asked.so/invoke/f1","own":1}}`)
		case "/v2/runner/apps/a1/triggerBySource/http//pay/x":
			fmt.Fprint(w, `{"id":"t1","app_id":"a1","fn_id":"f1","type":"http","source":"/pay/x"}`)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintln(w, `{"message":"Trigger not found"}`)
		}
	}))
	defer served.Close()
	api, err := client.New(served.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	c := New(Remote(api, 0), DefaultTTL)
	target, err := c.ByHTTPSource(t.Context(), "shop", "/pay/x")
	if err != nil || target.App.Config["A"] != "1" || target.Fn.Image != "img" || target.Trigger.ID != "t1" {
		t.Fatalf("got %+v, %v", target, err)
	}
	if len(target.Fn.Annotations) != 1 {
		t.Errorf("annotations %v: the node's own are to be left out", target.Fn.Annotations)
	}
	if _, err := c.ByHTTPSource(t.Context(), "shop", "/other"); !errors.Is(err, model.ErrTriggerNotFound) {
		t.Errorf("got %v", err)
	}
}
