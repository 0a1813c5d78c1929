package session

import (
	"bytes"
	"testing"
	"time"
)

// TestAuthTime: of the two times, the earlier one counts, and none before the
// Login.
func TestAuthTime(t *testing.T) {
	login := time.UnixMilli(1_800_000_000_000)
	after := func(d time.Duration) time.Time { return login.Add(d) }
	for _, tt := range []struct {
		name          string
		at, recorded  time.Time // of the authentication, and the Created that it saw
		created, want time.Time
	}{
		{"no other one", time.Time{}, time.Time{}, login, login},
		{"an hour after", after(time.Hour), login, login, after(time.Hour)},
		{"exact to the millisecond", after(time.Hour + 999_999), login, login, after(time.Hour)},
		{"a clock that is behind", after(-time.Minute), login, login, login},
		{"records are made older", after(time.Hour), login, after(-3 * time.Hour), after(-2 * time.Hour)},
		{"an earlier version has logged in", after(time.Hour), login, after(2 * time.Hour), after(2 * time.Hour)},
		{"the same, with a clock that is behind", after(time.Hour), login, after(30 * time.Minute), after(time.Hour)},
	} {
		for name, c := range bothCodecs() {
			m := codecCore(c, 0)
			data, err := m.encodeAuth("ann", tt.at, tt.recorded, []string{"pwd"})
			if err != nil {
				t.Fatal(err)
			}
			when, methods, err := m.decodeAuth(data)
			if err != nil || len(methods) != 1 || methods[0] != "pwd" {
				t.Fatalf("%s, %s: %q, %v", tt.name, name, methods, err)
			}
			if got := when.in(tt.created); !got.Equal(tt.want) {
				t.Errorf("%s, %s: %v after the login, want %v", tt.name, name, got.Sub(login), tt.want.Sub(login))
			}
		}
	}
}

// TestAuthIsSmall holds the bytes that a session is larger by.
func TestAuthIsSmall(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		methods []string
		at      time.Time
		most    int
	}{
		{nil, time.Time{}, 0},
		{[]string{"pwd"}, time.Time{}, 6},
		{[]string{"pwd", "otp"}, now, 25},
	} {
		data, err := codecCore(bothCodecs()["MessagePack"], 0).encodeAuth("ann", tt.at, now.Add(-24*time.Hour), tt.methods)
		if err != nil || len(data) > tt.most {
			t.Errorf("%q, %v: %d bytes, %v", tt.methods, tt.at, len(data), err)
		}
	}
}

// TestLaterAuth: of two authentications the later one stays.
func TestLaterAuth(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	for name, c := range bothCodecs() {
		m := codecCore(c, 0)
		auth := func(at time.Time, methods ...string) []byte {
			data, err := m.encodeAuth("ann", at, now.Add(-time.Hour), methods)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		mine := auth(now, "mine")
		junk, err := m.encode("junk")
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name   string
			theirs []byte
			stays  bool
		}{
			{"none", nil, false},
			{"a login", auth(time.Time{}, "theirs"), false},
			{"earlier", auth(now.Add(-time.Minute), "theirs"), false},
			{"the same", auth(now, "theirs"), false},
			{"later", auth(now.Add(time.Millisecond), "theirs"), true},
			{"junk", junk, false},
		} {
			want := mine
			if tt.stays {
				want = tt.theirs
			}
			if got, err := m.laterAuth(mine, tt.theirs); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %q, %v", name, tt.name, got, err)
			}
		}
	}
}
