package runnerrpc

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/tinefn/tine/invoke"
	"github.com/tinefn/tine/model"
)

// numberedFn is one of many functions.
func numberedFn(i int) *model.Fn {
	fn := *testFn
	fn.ID, fn.Name, fn.Image = fmt.Sprint("fn-", i), fmt.Sprint("name-", i), fmt.Sprint("example/image:", i)
	return &fn
}

func TestDefinitionsKeepTheirNumbersUntilThereAreTooMany(t *testing.T) {
	var sent sentDefinitions
	of := make([]definition, connectionDefinitions+2)
	for i := range of {
		of[i] = definition{testApp, numberedFn(i)}
	}
	for round := range 2 {
		for i := range connectionDefinitions {
			if number, fresh := sent.number(of[i]); number != i || fresh != (round == 0) {
				t.Fatalf("round %d: definition %d has number %d, to be sent: %v", round, i, number, fresh)
			}
		}
	}
	for _, step := range []struct {
		definition, number int
		fresh              bool
	}{
		{connectionDefinitions, 0, true}, // takes the number of the oldest
		{connectionDefinitions, 0, false},
		{1, 1, false},
		{0, 1, true}, // was given up, and takes the number of what is the oldest now
		{0, 1, false},
		{connectionDefinitions, 0, false},
		{2, 2, false},
		{1, 2, true},
		{connectionDefinitions + 1, 3, true},
		{connectionDefinitions - 1, connectionDefinitions - 1, false},
	} {
		if number, fresh := sent.number(of[step.definition]); number != step.number || fresh != step.fresh {
			t.Errorf("%+v: got number %d, to be sent: %v", step, number, fresh)
		}
	}
	if len(sent.numbers) > connectionDefinitions {
		t.Errorf("%d are remembered", len(sent.numbers))
	}
	other := *testApp
	if _, fresh := sent.number(definition{&other, of[5].fn}); !fresh {
		t.Error("a function of another app is not sent")
	}
}

// nameIt answers with what tells definitions apart.
var nameIt = invoke.InvokerFunc(func(_ context.Context, call *invoke.Call) (*invoke.Response, error) {
	text := []byte(call.Fn.ID + " " + call.Fn.Name + " " + call.Fn.Image + " " + call.Fn.Config["F"])
	return &invoke.Response{Header: http.Header{}, Body: invoke.HoldBody(text), ContentLength: int64(len(text)), Timing: &invoke.Timing{}}, nil
})

// More functions than a connection knows, on one connection: no call may get another's.
func TestEveryCallIsOfItsOwnFunction(t *testing.T) {
	seen := &waysSeen{Invoker: nameIt}
	_, address := serve(t, ServerOptions{Invoker: seen})
	client := dialDirect(t, address, ClientOptions{DirectConnections: 1})
	ctx := within(t)
	fns := make([]*model.Fn, 300)
	for i := range fns {
		fns[i] = numberedFn(i)
	}
	order := make([]int, 0, 4*len(fns))
	for range 2 {
		for i := range fns {
			order = append(order, i)
		}
	}
	for i := range fns { // some are known, some were given up
		order = append(order, i*7%len(fns), 299-i)
	}
	for _, i := range order {
		call := newCall("x")
		call.Fn = fns[i]
		response, err := client.Invoke(ctx, call)
		if got, want := read(t, response, err), fns[i].ID+" "+fns[i].Name+" "+fns[i].Image+" fn"; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if over := seen.grpc.Load(); over > 0 {
		t.Errorf("%d calls went over gRPC", over)
	}
}

func TestDefinitionThatChangesIsSentAgain(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: nameIt})
		ctx := within(t)
		for i, value := range []string{"one", "one", "two", "one", "three"} {
			changed := *testFn
			changed.Config = maps.Clone(testFn.Config)
			changed.Config["F"] = value
			app := *testApp
			for range 2 {
				call := newCall("x")
				call.App, call.Fn = &app, &changed
				response, err := client.Invoke(ctx, call)
				if got, want := read(t, response, err), "fn-id fn example/image:1 "+value; got != want {
					t.Errorf("step %d: got %q, want %q", i, got, want)
				}
			}
		}
	})
}

// What is above a runner's side tells by the objects whether something has changed.
func TestEqualDefinitionsAreTheSameObjectsOnBothWays(t *testing.T) {
	got := make(chan definition, 1)
	_, address := serve(t, ServerOptions{Invoker: invoke.InvokerFunc(func(ctx context.Context, call *invoke.Call) (*invoke.Response, error) {
		got <- definition{call.App, call.Fn}
		return echo(ctx, call)
	})})
	ctx := within(t)
	clients := []*Client{dial(t, address, ClientOptions{DirectConnections: -1}), dialDirect(t, address, ClientOptions{}), dialDirect(t, address, ClientOptions{})}
	of := func(client *Client, app *model.App, fn *model.Fn) definition {
		call := newCall("x")
		call.App, call.Fn = app, fn
		response, err := client.Invoke(ctx, call)
		read(t, response, err)
		return <-got
	}
	first := of(clients[1], testApp, testFn)
	for i, client := range append(clients, clients...) {
		app, fn := *testApp, *testFn // a load balancer that has read them again
		if again := of(client, &app, &fn); again != first {
			t.Errorf("client %d: equal definitions are two", i)
		}
		other := fn
		other.Memory++
		if again := of(client, &app, &other); again.fn == first.fn {
			t.Errorf("client %d: another definition is the same", i)
		}
	}
}

// A definition that a runner refuses is refused each time, and its connection goes on with
// others.
func TestRefusedDefinitionDoesNotStandInTheWayOfOthers(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		_, client := w.connect(t, ServerOptions{Invoker: nameIt})
		ctx := within(t)
		none := *testFn
		none.Image = ""
		for i := range 6 {
			call := newCall("x")
			if i%2 == 0 {
				call.Fn = &none
			}
			response, err := client.Invoke(ctx, call)
			if i%2 == 1 {
				read(t, response, err)
			} else if d := model.Describe(err); err == nil || d.Kind != model.ErrInternal {
				t.Errorf("call %d: got %v", i, err)
			}
		}
	})
}
