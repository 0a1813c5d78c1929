package engine

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func TestEndpoint(t *testing.T) {
	var target string
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target = r.Header.Get("X-Amz-Target")
		w.WriteHeader(status)
	}))
	defer s.Close()

	t.Setenv("SESSION_DYNAMODB", "")
	t.Setenv("DYNAMODB_ENDPOINT", s.URL+"/")
	e, err := Start(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if want := "DynamoDB Local: DYNAMODB_ENDPOINT at " + s.URL; e.String() != want {
		t.Errorf("got %q, want %q", e, want)
	}
	if target != "DynamoDB_20120810.ListTables" {
		t.Errorf("asked for %q", target)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestWrongWay(t *testing.T) {
	tests := []struct{ way, endpoint, want string }{
		{"endpoint", "", "DYNAMODB_ENDPOINT"},
		{"podman", "", "want endpoint, container or jar"},
	}
	for _, tt := range tests {
		t.Setenv("SESSION_DYNAMODB", tt.way)
		t.Setenv("DYNAMODB_ENDPOINT", tt.endpoint)
		e, err := Start(t.Context(), os.Stderr)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("SESSION_DYNAMODB=%s: got %v, %v", tt.way, e, err)
		}
	}
}
