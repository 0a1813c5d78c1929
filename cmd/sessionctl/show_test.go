package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/codec"
)

// TestTokenKey holds the key that is made of a token against the one that a
// Manager uses.
func TestTokenKey(t *testing.T) {
	backend := &memory.Backend{}
	m, err := session.New(backend, session.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s := m.Start()
	if err := s.Set("n", 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	token := s.Token().Reveal()
	for _, in := range []string{token, token + "\n", "  " + token + "\r\nmore", "__Host-session=" + token + "\n", "__Host-session=" + token + ";\n"} {
		key, err := tokenKey(strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := backend.Load(t.Context(), key); err != nil {
			t.Errorf("there is no session with that key: %v", err)
		}
	}
	for _, in := range []string{"", "\n", token[1:], token + "x", strings.Replace(token, token[:1], "!", 1), strings.Repeat("x", 5000)} {
		if key, err := tokenKey(strings.NewReader(in)); err == nil || strings.Contains(err.Error(), token[2:]) {
			t.Errorf("got %q, %v", key, err)
		}
	}
}

func TestShow(t *testing.T) {
	f := shopTable(t)
	secret := "the secret"
	rich := map[string]any{
		userValue: "zoe", idleValue: 3600, "text": secret, "bytes": []byte("b"), "yes": true, "n": 12, "f": 1.5, "none": nil,
		"when": time.Unix(1, 0).UTC(), "list": []int{1, 2}, "map": map[string]int{"a": 1}, "odd": map[int]string{1: "x"}, "nan": math.NaN(),
	}
	f.put("rich", encoded(t, codec.MessagePack{}, rich), time.Hour, time.Hour, 0)
	f.put("junk", []byte("\xc1"), time.Hour, time.Hour, 0)
	f.put("json", encoded(t, codec.JSON{}, map[string]any{"a": "b\x1b[2J\u009b"}), time.Hour, time.Hour, 0)

	f.put("remembered", encoded(t, codec.MessagePack{}, map[string]any{userValue: "ann", idleValue: 2592000, lifetimeValue: "2592000 7776000 persistent"}), time.Hour, time.Hour, 0)
	f.put("shared", encoded(t, codec.MessagePack{}, map[string]any{lifetimeValue: "300 0"}), time.Hour, time.Hour, 0)
	f.put("endless", encoded(t, codec.MessagePack{}, map[string]any{lifetimeValue: "86400 -1"}), time.Hour, time.Hour, 0)
	f.put("later", encoded(t, codec.MessagePack{}, map[string]any{lifetimeValue: "2 3 persistent and more\x1b[2J"}), time.Hour, time.Hour, 0)

	tests := []struct {
		args   string
		code   int
		stdout []string
		not    []string
		stderr string
	}{
		{"ann-1", codeDone, []string{"a session", "60 min ago", "in 60 min, unless it is used", "written 2 times", "logged in; --values says who", "cart", "list of 1"}, []string{"ann\n", "tea", "Locked"}, ""},
		{"ann-1 --values", codeDone, []string{"User      ann", `["tea"]`}, nil, ""},
		{"ann-2", codeDone, []string{"Locked    until", "unless it is renewed"}, []string{"xxx"}, ""},
		{"guest", codeDone, []string{"User      none", "integer"}, nil, ""},
		{"bob-1", codeDone, []string{"Values    none"}, []string{"Locked"}, ""},
		{"remembered", codeDone, []string{"Lifetime  of its own: idle 30 days, absolute 90 days, cookie persistent", "Values    none"}, []string{"2592000 7776000"}, ""},
		{"shared", codeDone, []string{"Lifetime  of its own: idle 5 min, absolute as configured, cookie as configured"}, nil, ""},
		{"endless", codeDone, []string{"Lifetime  of its own: idle 24.0 h, absolute never, cookie as configured"}, nil, ""},
		{"later", codeDone, []string{"Lifetime  does not decode"}, []string{"and more", "\x1b"}, ""},
		{"guest", codeDone, []string{"User      none"}, []string{"Lifetime"}, ""},
		{"moved", codeDone, []string{"a marker: the session here was given a new ID", "Now at    ann-1"}, []string{"unless it is used", "Values"}, ""},
		{"old-ann", codeDone, []string{"Expired", "nobody can use it any more"}, nil, ""},
		{"rich", codeDone, []string{"text ", "bytes", "bool", "integer", "number", "null", "time", "list of 2", "map of 1"}, []string{secret, "zoe"}, ""},
		{"rich --values", codeDone, []string{secret, "zoe", `"1970-01-01T00:00:01Z"`, "[1,2]", `{"1":"x"}`, `"NaN"`}, nil, ""},
		{"json --codec json --values", codeDone, []string{`"b\u001b[2J\u009b"`}, []string{"\x1b", "\u009b"}, ""},
		{"json", codeFound, []string{"does not decode"}, nil, "name it with --codec"},
		{"junk", codeFound, []string{"a record that does not decode", "Began"}, nil, "does not decode with codec msgpack"},
		{"PHPSESSID_x", codeFound, nil, []string{"user|s"}, "was not written by package session"},
		{"nobody", codeFailed, nil, nil, "There is no session with key nobody in table"},
		{"-1xlscvFjkC25AW73Awu3VzFY0LCEC9B", codeFailed, nil, nil, "There is no session with key -1xlscvFjkC25AW73Awu3VzFY0LCEC9B in table"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := f.ctl(t.Context(), "", strings.Fields("show "+tt.args)...)
			if got.code != tt.code || !strings.Contains(got.stderr, tt.stderr) || tt.stderr == "" && got.stderr != "" {
				t.Errorf("got %d, %s", got.code, got.stderr)
			}
			for _, want := range tt.stdout {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("there is no %q in\n%s", want, got.stdout)
				}
			}
			js := f.ctl(t.Context(), "", strings.Fields("show --json "+tt.args)...)
			for _, not := range tt.not {
				if strings.Contains(got.stdout+got.stderr, not) || strings.Contains(js.stderr, not) {
					t.Errorf("there is %q in\n%s", not, got.stdout)
				}
			}
			var v shown
			if js.code != tt.code || js.stdout != "" && json.Unmarshal([]byte(js.stdout), &v) != nil {
				t.Errorf("got %+v", js)
			}
			if !strings.Contains(tt.args, "--values") && (v.User != nil || strings.Contains(js.stdout, secret)) {
				t.Errorf("got %s", js.stdout)
			}
		})
	}
}

func TestShowToken(t *testing.T) {
	f := newFakeTable(t)
	token := strings.Repeat("aB3-", 8)
	key, err := tokenKey(strings.NewReader(token))
	if err != nil {
		t.Fatal(err)
	}
	f.put(key, encoded(t, codec.MessagePack{}, map[string]any{"n": 1}), time.Hour, time.Hour, 0)
	for _, args := range [][]string{{"show", "--token-stdin", "--values", "-v"}, {"show", "--token-stdin", "--json"}, {"revoke", "--token-stdin"}, {"show", "--token-stdin"}} {
		got := f.ctl(t.Context(), token+"\n", args...)
		if strings.Contains(got.stdout+got.stderr, token) || !strings.Contains(got.stdout+got.stderr, key) {
			t.Errorf("%v: got %+v", args, got)
		}
	}
	if len(f.rows) != 0 {
		t.Error("it is still there")
	}
	got := f.ctl(t.Context(), token[1:], "show", "--token-stdin")
	if got.code == codeDone || strings.Contains(got.stderr, token[2:]) {
		t.Errorf("got %+v", got)
	}
}
