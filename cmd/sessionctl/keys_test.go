package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// Tokens of other libraries and of Config.Tokens, as keys.
var liveKeys = []string{
	"q3Lw0YbZ5n8kV1xT6uJ2cR9dF4gH7mPsAeOiUyWzX-_", // 32 bytes in base64url
	"PHPSESSID_0k5s1c7e9g2i4m6o8q3u0a5b7d",
	"scs:session:q3Lw0YbZ5n8kV1xT6uJ2cR9dF4gH7mPs", // a prefix, and what looks like a digest
	"0123456789abcdef0123456789abcdef",             // hex
	"0123456789ABCDEF0123456789ABCDEF",
	"5JXNL4OJMAAZ3ZOVQ3BBWCWMQH", // letters and digits
	"6ba7b810-9dad-11d1-80b4-00c04fd430c8",
	"0123456789abcdef", // as short as a token can be
	strings.Repeat("s", 512),
}

func TestKey(t *testing.T) {
	digest := session.DefaultStoreKey("token")
	for _, tt := range []struct {
		keys, key string
		printed   bool
	}{
		{keysAuto, digest, true}, {keysAuto, "guest", true}, {keysAuto, "", true}, {keysAuto, "15 characters..", true},
		{keysAuto, "s/" + digest, false}, {keysAuto, digest[1:], false}, {keysAuto, digest + "A", false}, {keysAuto, "16 characters...", false},
		{keysAuto, strings.Repeat("é", 16), false},
		{keysShow, liveKeys[0], true}, {keysShow, digest, true}, {keysHide, digest, false}, {keysHide, "guest", false}, {keysHide, "", true},
	} {
		a := app{keys: tt.keys}
		if got := a.key(tt.key); (got == tt.key) != tt.printed || !tt.printed && !isAlias(got) || a.key(got) != got {
			t.Errorf("%s: %q is printed as %q", tt.keys, tt.key, got)
		}
	}
	seen := map[string]bool{}
	a := app{keys: keysAuto}
	for _, key := range liveKeys {
		got := a.key(key)
		if !isAlias(got) || seen[got] || strings.Contains(key, got[1:]) {
			t.Errorf("%q is printed as %q", key, got)
		}
		seen[got] = true
	}
}

// liveTable has sessions whose keys are their tokens, and what is left of them.
func liveTable(t *testing.T) *fakeTable {
	f := newFakeTable(t)
	c := codec.MessagePack{}
	for i, key := range liveKeys {
		ann := encoded(t, c, map[string]any{userValue: "ann", "cart": []string{"tea"}})
		moved := encoded(t, c, map[string]any{movedValue: key, "_session.trail": "zzzzzz " + key})
		f.put(key, ann, time.Hour, time.Hour, 0)
		f.put(key[1:]+"~", moved, time.Hour, time.Hour, 0)
		f.put(string(rune('a'+i))+"-moved", moved, time.Hour, time.Hour, 0)
		f.put(key[2:]+"~~", ann, 30*time.Hour, -25*time.Hour, time.Minute)
		f.put(key[3:]+"~~~", []byte("junk"), time.Hour, time.Hour, time.Minute)
		f.rows[key[4:]+"~~~~"] = object{"id": object{"S": key[4:] + "~~~~"}, "data": object{"N": "1"}, "expires": object{"S": "x"}}
	}
	return f
}

// TestNoCommandPrintsALiveToken has every command meet keys that are tokens.
func TestNoCommandPrintsALiveToken(t *testing.T) {
	dir := t.TempDir()
	prices, resume := filepath.Join(dir, "prices"), filepath.Join(dir, "resume")
	args := everyCommand(prices, resume)
	for path, lines := range args {
		for i := range lines {
			args[path][i] = strings.ReplaceAll(lines[i], "HOSTILE", "x")
		}
	}
	args["show"], args["revoke"] = append(args["show"], "-", "none"), append(args["revoke"], "-|--yes", "--user=ann|--yes", "--everyone|--yes")
	for i, key := range liveKeys {
		for _, key := range []string{key, key[1:] + "~", key[2:] + "~~", key[3:] + "~~~", key[4:] + "~~~~", alias(key), string(rune('a'+i)) + "-moved", key + "x"} {
			if len(key) <= 512 {
				args["show"] = append(args["show"], key, key+"|--values")
				args["revoke"] = append(args["revoke"], key, key+"|--dry-run")
			}
		}
	}
	for _, path := range []string{"bench", "cost", "iam", "help", "table create", "table check", "table delete"} {
		args[path] = nil // they print no key
	}
	args["completion bash"], args["completion zsh"] = nil, nil
	args["completion fish"], args["completion powershell"] = nil, nil
	walk(t, args, func(_ string, args ...string) outcome {
		f := liveTable(t)
		defer f.Close()
		f.deny(liveKeys[1], true)
		got := f.ctl(t.Context(), liveKeys[0]+"\n", args...)
		for _, key := range liveKeys {
			if secret := key[4:]; strings.Contains(got.stdout+got.stderr, secret) {
				t.Errorf("%q prints %q: %s%s", args, key, got.stdout, got.stderr)
			}
		}
		return got
	})
}

// TestAlias: show and revoke find a session by what list prints, and with --keys
// show there is nothing to find.
func TestAlias(t *testing.T) {
	f := liveTable(t)
	key := liveKeys[0]
	got := f.ctl(t.Context(), "", "show", alias(key))
	if got.code != 0 || !strings.Contains(got.stdout, alias(key)) || !strings.Contains(got.stdout, "a session") {
		t.Errorf("show: %+v", got)
	}
	if got = f.ctl(t.Context(), key, "show", "-"); got.code != 0 || !strings.Contains(got.stdout, alias(key)) {
		t.Errorf("show -: %+v", got)
	}
	if got = f.ctl(t.Context(), "", "show", "--keys=show", alias(key)); got.code != 0 || !strings.Contains(got.stdout, key) {
		t.Errorf("show --keys=show: %+v", got)
	}
	list := f.ctl(t.Context(), "", "list", "--limit=0")
	if !strings.Contains(list.stdout, alias(key)) || strings.Contains(list.stdout, key[4:]) {
		t.Errorf("list: %+v", list)
	}
	if got = f.ctl(t.Context(), "", "list", "--limit=0", "--keys=show"); !strings.Contains(got.stdout, key) {
		t.Errorf("list --keys=show: %+v", got)
	}
	if got = f.ctl(t.Context(), "", "revoke", "--yes", alias(key), alias(liveKeys[2]), alias("none")); got.code != 0 ||
		strings.Count(got.stdout, "revoked ") != 2 || !strings.Contains(got.stdout, "no session "+alias("none")) {
		t.Errorf("revoke: %+v", got)
	}
	if got = f.ctl(t.Context(), "", "show", alias(key)); got.code != 1 || !strings.Contains(got.stderr, "no session with key "+alias(key)) {
		t.Errorf("show of what was revoked: %+v", got)
	}
	for _, command := range []string{"list", "show", "revoke"} {
		if got = f.ctl(t.Context(), "", command, "--keys=all"); got.code != 2 || !strings.Contains(got.stderr, "auto, show, hide") {
			t.Errorf("%s --keys=all: %+v", command, got)
		}
	}
	for stdin, want := range map[string]string{"": "0 keys", "a\nb\n": "2 keys", strings.Repeat("x", 513): "513"} {
		if got = f.ctl(t.Context(), stdin, "show", "-"); got.code != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("show - with %.10q: %+v", stdin, got)
		}
	}
}

// TestLongKeyOnStandardInput: what is refused is not printed.
func TestLongKeyOnStandardInput(t *testing.T) {
	f := liveTable(t)
	secret := strings.Repeat("secret", 100)
	for _, command := range []string{"show", "revoke"} {
		got := f.ctl(t.Context(), secret, command, "-")
		if got.code == 0 || bytes.Contains([]byte(got.stdout+got.stderr), []byte("secretsecret")) {
			t.Errorf("%s: %+v", command, got)
		}
	}
}

// TestAnyToken: with --any-token the key of a token of another library is found.
func TestAnyToken(t *testing.T) {
	f := newFakeTable(t)
	for _, token := range []string{liveKeys[0], liveKeys[5], "MTcwMDAwMDAwMHxEWDhFQVFMX2dBQUJFQUVRQUFB==", strings.Repeat("s", 4096)} {
		for _, in := range []string{token, "__Host-session=" + token + ";\n"} {
			f.put(session.DefaultStoreKey(token), encoded(t, codec.MessagePack{}, map[string]any{"n": 1}), time.Hour, time.Hour, 0)
			if got := f.ctl(t.Context(), in, "show", "--token-stdin", "--any-token"); got.code != 0 || !strings.Contains(got.stdout, "a session") || strings.Contains(got.stdout, token) {
				t.Errorf("%.50q: %+v", in, got)
			}
			if got := f.ctl(t.Context(), in, "revoke", "--token-stdin"); got.code == 0 || strings.Contains(got.stderr, token) {
				t.Errorf("%.50q without --any-token: %+v", in, got)
			}
			if got := f.ctl(t.Context(), in, "revoke", "--token-stdin", "--any-token"); got.code != 0 || len(f.rows) != 0 {
				t.Errorf("%.50q: %+v, %d rows are left", in, got, len(f.rows))
			}
		}
	}
	for _, in := range []string{"", "short", strings.Repeat("s", 4097), strings.Repeat("a b", 10), strings.Repeat("é", 20), strings.Repeat("a.b", 10)} {
		if got := f.ctl(t.Context(), in, "show", "--token-stdin", "--any-token"); got.code == 0 || !strings.Contains(got.stderr, "16 to 4096") {
			t.Errorf("%.50q: %+v", in, got)
		}
	}
}
