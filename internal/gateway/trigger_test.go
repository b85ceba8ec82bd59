package gateway

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tinefn/tine/internal/edge"
	"github.com/tinefn/tine/model"
)

func TestTriggerEncapsulatesTheRequest(t *testing.T) {
	f := says(nil, "")
	server, _ := serve(t, f, edge.Options{})
	request := newRequest(t, "DELETE", server.URL+"/t/shop/pay?a=b%20c&d", "x", http.Header{
		"Content-Type": {"text/y"}, "Test-Header": {"1", "2"}, "Keep-Alive": {"5"}, "Fn-Call-Id": {"forged"},
		"Fn-Invoke-Type": {"detached"}, "User-Agent": {"test"}, "Authorization": {"secret"},
	})
	request.Host = "fn.example.com"
	response, _ := do(t, request)
	if response.StatusCode != 200 {
		t.Fatalf("status %d", response.StatusCode)
	}
	if diff := cmp.Diff(http.Header{
		"Content-Type": {"text/y"}, "Fn-Http-H-Test-Header": {"1", "2"}, "Fn-Http-H-Fn-Call-Id": {"forged"},
		"Fn-Http-H-Fn-Invoke-Type": {"detached"}, "Fn-Http-H-User-Agent": {"test"}, "Fn-Http-H-Authorization": {"secret"},
		"Fn-Http-H-Accept-Encoding": {"gzip"}, "Fn-Http-H-Content-Length": {"1"},
		"Fn-Http-Method": {"DELETE"}, "Fn-Intent": {"httprequest"},
		"Fn-Http-Request-Url": {"http://fn.example.com/t/shop/pay?a=b%20c&d"},
	}, f.header); diff != "" {
		t.Errorf("call's header (-want +got)\n%s", diff)
	}
}

func TestTriggerTurnsTheAnswerBack(t *testing.T) {
	f := says(http.Header{
		"Content-Type": {"text/x"}, "Fn-Http-Status": {"202"}, "Fn-Http-H-Return-Header": {"1", "2"}, "Fn-Http-H-": {"dropped"},
		"Fn-Fdk-Version": {"x"}, "Unprefixed": {"y"}, "Fn-Call-Id": {"forged"},
		"Fn-Http-H-Content-Length": {"9999"}, "Fn-Http-H-Transfer-Encoding": {"gzip"}, "Fn-Http-H-Keep-Alive": {"5"},
		"Fn-Http-H-Vary": {"Cookie"},
	}, "answer")
	server, _ := serve(t, f, edge.Options{CORSOrigins: []string{"https://page.example.com"}})
	response, body := do(t, newRequest(t, "GET", server.URL+"/t/shop/pay", "", http.Header{"Origin": {"https://page.example.com"}}))
	if response.StatusCode != 202 || body != "answer" || response.ContentLength != 6 {
		t.Errorf("got %d %q, length %d", response.StatusCode, body, response.ContentLength)
	}
	if id := response.Header.Get("Fn-Call-Id"); len(id) != model.IDLength {
		t.Errorf("Fn-Call-Id: %q", id)
	}
	for _, name := range []string{"Date", "Content-Length", "Fn-Call-Id"} {
		response.Header.Del(name)
	}
	if diff := cmp.Diff(http.Header{
		"Content-Type": {"text/x"}, "Return-Header": {"1", "2"},
		"Access-Control-Allow-Origin": {"https://page.example.com"}, "Vary": {"Cookie"},
	}, response.Header); diff != "" {
		t.Errorf("answer's header (-want +got)\n%s", diff)
	}
}

func TestStatusOfTriggerAnswers(t *testing.T) {
	for given, want := range map[string]int{
		"": 200, "200": 200, "404": 404, "302": 302, "599": 599, "204": 204, "304": 304,
		"word": 200, "0": 200, "-1": 200, "100": 502, "101": 502, "199": 502, "600": 502, "99999": 502,
	} {
		t.Run("status "+given, func(t *testing.T) {
			server, _ := serve(t, says(http.Header{"Fn-Http-Status": {given}}, ""), edge.Options{})
			response, body := do(t, newRequest(t, "GET", server.URL+"/t/shop/pay", "", nil))
			if response.StatusCode != want {
				t.Errorf("got %d, want %d", response.StatusCode, want)
			}
			if want == 502 && body != `{"message":"invalid function response"}`+"\n" {
				t.Errorf("body %q", body)
			}
		})
	}
}

func TestTriggerSourcesMatchExactly(t *testing.T) {
	server, _ := serve(t, says(nil, ""), edge.Options{})
	for path, want := range map[string]int{
		"/t/shop/pay": 200, "/t/shop": 200, "/t/shop/": 200, "/t/shop//twice/": 200, "/t/shop/p%61y": 200,
		"/t/shop/pay/": 404, "/t/shop/Pay": 404, "/t/other/pay": 404, "/t/": 404,
	} {
		if response, body := do(t, newRequest(t, "GET", server.URL+path, "", nil)); response.StatusCode != want {
			t.Errorf("%s: got %d %s, want %d", path, response.StatusCode, body, want)
		}
	}
}
