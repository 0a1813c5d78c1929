package php

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/integration/proxy"
)

// Both kinds of VersionedConnection.
func connections(t *testing.T, test func(t *testing.T, table string, s site)) {
	for _, locking := range []bool{false, true} {
		t.Run(fmt.Sprintf("locking=%t", locking), func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			test(t, table, versioned(table, locking))
		})
	}
}

func TestSessionFunctions(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		tests := []struct {
			name   string
			code   string
			value  string // that code returns
			stored string // the session afterwards
		}{
			{"write", `$_SESSION['n']++; session_write_close();`, `null`, `{"n":2}`},
			{"unchanged", `session_write_close();`, `null`, `{"n":1}`},
			{"abort", `$_SESSION['n'] = 5; session_abort();`, `null`, `{"n":1}`},
			{"reset", `$_SESSION['n'] = 5; session_reset(); $_SESSION['m'] = $_SESSION['n']; session_write_close();`, `null`, `{"n":1,"m":1}`},
			{"emptied", `$_SESSION = []; session_write_close();`, `null`, `[]`},
			{"emptied and filled", `$_SESSION = []; session_write_close(); session_start(); $s = $_SESSION; $_SESSION['m'] = 2; session_write_close(); return $s;`, `[]`, `{"m":2}`},
			{"write twice", `$_SESSION['n']++; session_write_close(); session_start(); $_SESSION['n']++; session_write_close();`, `null`, `{"n":3}`},
			{"write and abort", `$_SESSION['n']++; session_write_close(); session_start(); $_SESSION['n']++; session_abort(); session_start(); session_write_close();`, `null`, `{"n":2}`},
			{"read and close", `session_write_close(); session_start(['read_and_close' => true]); session_start(); $_SESSION['m'] = $_SESSION['n']; session_write_close();`, `null`, `{"n":1,"m":1}`},
			{"another session", `$_SESSION['n']++; session_write_close(); session_id('other'); session_start(); $_SESSION['o'] = 1; session_write_close();`, `null`, `{"n":2}`},
			{"new ID", `$_SESSION['n']++; session_regenerate_id(true); $new = session_id(); $_SESSION['n']++; session_write_close(); session_id($new); session_start(); $s = $_SESSION; session_write_close(); return $s;`, `{"n":3}`, ``},
			{"new ID, the old one stays", `$_SESSION['n']++; session_regenerate_id(false); $new = session_id(); $_SESSION['n']++; session_write_close(); session_id($new); session_start(); $s = $_SESSION; session_write_close(); return $s;`, `{"n":3}`, `{"n":2}`},
			{"destroyed", `session_destroy();`, `null`, ``},
			{"destroyed and begun", `session_destroy(); session_id($id); session_start(); $s = $_SESSION; $_SESSION['m'] = 1; session_write_close(); return $s;`, `[]`, `{"m":1}`},
		}
		for _, lazy := range []string{"0", "1"} {
			w := start(t, s.ini("session.lazy_write", lazy))
			for i, tt := range tests {
				id := fmt.Sprintf("functions%s%d", lazy, i)
				w.run(t, open(id)+`$_SESSION['n'] = 1; session_write_close();`)
				if got := w.run(t, open(id)+tt.code); got != tt.value {
					t.Errorf("lazy_write %s, %s: the page has returned %s, want %s", lazy, tt.name, got, tt.value)
				}
				r := row(t, table, id)
				if tt.stored == "" {
					if r != nil {
						t.Errorf("lazy_write %s, %s: the row is still there", lazy, tt.name)
					}
					continue
				}
				if got := w.run(t, show(id)); got != tt.stored {
					t.Errorf("lazy_write %s, %s: the session is then %s, want %s", lazy, tt.name, got, tt.stored)
				}
				if r := row(t, table, id); r["lock"] != nil || r["lock_until"] != nil {
					t.Errorf("lazy_write %s, %s: the lock was not freed", lazy, tt.name)
				}
			}
		}
	})
}

// A page that has ended holds no lock, even one that the handler has not freed.
func TestLockAtTheEndOfThePage(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	w := start(t, versioned(table, true))
	w.run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)
	w.run(t, open("id")+`session_write_close(); session_start(['read_and_close' => true]);`)
	w.end(t)
	if row(t, table, "id")["lock"] != nil {
		t.Error("the lock was not freed")
	}
	// PHP writes the session of a page that does not.
	w = start(t, versioned(table, true))
	w.run(t, open("id")+`$_SESSION['n'] = 2;`)
	w.end(t)
	start(t, versioned(table, true)).want(t, show("id"), `{"n":2}`)
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s)
		const id = "id"
		w.run(t, open(id)+`session_write_close();`)
		if row(t, table, id) != nil {
			t.Fatal("a visitor without values has a row")
		}
		before := time.Now()
		w.run(t, open(id)+`$_SESSION['n'] = 1; session_write_close();`)
		first := row(t, table, id)
		if got := first["data"].(*types.AttributeValueMemberS).Value; got != "n|i:1;" {
			t.Errorf("data = %q", got)
		}
		if at := time.UnixMilli(integer(t, first["created"])); at.Before(before.Truncate(time.Millisecond)) || at.After(time.Now()) {
			t.Errorf("created = %v", at)
		}
		if at := time.Unix(integer(t, first["expires"]), 0); at.Before(before.Add(1439*time.Second)) || at.After(time.Now().Add(1441*time.Second)) {
			t.Errorf("expires = %v", at)
		}
		// A version has the tokens of the last 16 writes, newest first.
		version := first["version"].(*types.AttributeValueMemberB).Value
		for i := range 20 {
			w.run(t, open(id)+`$_SESSION['n']++; session_write_close();`)
			r := row(t, table, id)
			next := r["version"].(*types.AttributeValueMemberB).Value
			if want := min(8*(i+2), 128); len(next) != want || !bytes.Equal(next[8:], version[:want-8]) {
				t.Fatalf("after %x the version is %x", version, next)
			}
			version = next
			if integer(t, r["created"]) != integer(t, first["created"]) {
				t.Fatal("a write changed created")
			}
		}
		// The lock.
		if s.Config["locking"] == true {
			w.run(t, open(id))
			r := row(t, table, id)
			if got := r["lock"].(*types.AttributeValueMemberB).Value; len(got) != 16 {
				t.Errorf("lock = %x", got)
			}
			if lease := time.Until(time.UnixMilli(integer(t, r["lock_until"]))); lease > 30*time.Second || lease < 20*time.Second {
				t.Errorf("lock_until is in %v", lease)
			}
			w.run(t, `session_write_close();`)
		}
		// The end of a session is never brought forward.
		far := time.Now().Add(24 * time.Hour).Unix()
		change(t, table, id, attributes{"expires": number(far)})
		w.run(t, open(id)+`session_write_close();`)
		w.run(t, open(id)+`$_SESSION['n']++; session_write_close();`)
		if got := integer(t, row(t, table, id)["expires"]); got != far {
			t.Errorf("expires = %d, want %d", got, far)
		}
		// Nor is one that another page has moved meanwhile.
		change(t, table, id, attributes{"expires": number(time.Now().Add(time.Minute).Unix())})
		w.run(t, open(id))
		change(t, table, id, attributes{"expires": number(far)})
		w.run(t, `session_write_close();`)
		if got := integer(t, row(t, table, id)["expires"]); got != far {
			t.Errorf("after a page that has only read, expires = %d, want %d", got, far)
		}
		if row(t, table, id)["lock"] != nil {
			t.Error("the lock was not freed")
		}
		// A page that has only read does not bring back what has expired.
		past := time.Now().Add(-time.Minute).Unix()
		w.run(t, open(id))
		change(t, table, id, attributes{"expires": number(past)})
		w.run(t, `session_write_close();`)
		if got := integer(t, row(t, table, id)["expires"]); got != past {
			t.Error("an expired session came back")
		}
	})
}

// A site may have other names, and its data as bytes.
func TestConfig(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s.with("data_attribute", "values").with("session_lifetime_attribute", "ttl").with("data_attribute_type", "binary"))
		for n := range 3 {
			w.want(t, open("id")+`$n = $_SESSION["\xff"] ?? 0; $_SESSION["\xff"] = $n + 1; session_write_close(); return $n;`, fmt.Sprint(n))
		}
		w.run(t, open("id")+`session_write_close();`)
		r := row(t, table, "id")
		if r["data"] != nil || r["expires"] != nil || r["ttl"] == nil {
			t.Errorf("the row has other attributes: %v", r)
		}
		if got, ok := r["values"].(*types.AttributeValueMemberB); !ok || !bytes.HasPrefix(got.Value, []byte("\xff|i:")) {
			t.Errorf("the data is %v", r["values"])
		}
	})
}

// A setting that cannot be right is an error in the constructor.
func TestWrongSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ config, want string }{
		{"'session_lifetimes' => 5", "no setting session_lifetimes"},
		{"'lock_lease' => 0", "lock_lease"},
		{"'session_lifetime' => 0", "session_lifetime"},
		{"'data_attribute_type' => 'bin'", "data_attribute_type"},
		{"'data_attribute' => 'version'", "same name"},
		{"'hash_key' => 'private'", "same name"},
		{"'session_lifetime_attribute' => 'data'", "same name"},
		{"'locking' => true, 'throw' => true, 'lock_lease' => 5, 'batch_config' => [], 'consistent_read' => true, 'max_lock_wait_time' => 1", "none"},
	} {
		w := start(t, versioned("sessions", false))
		w.want(t, `try {
	new VersionedConnection(new Aws\DynamoDb\DynamoDbClient(['region' => 'us-east-1', 'version' => 'latest', 'endpoint' => 'http://127.0.0.1:1']), [`+tt.config+`]);
} catch (InvalidArgumentException $e) {
	return str_contains($e->getMessage(), '`+tt.want+`') ? 'refused' : $e->getMessage();
}
return 'none' === '`+tt.want+`' ? 'refused' : 'accepted';`, `"refused"`)
	}
}

func integer(t testing.TB, v types.AttributeValue) int64 {
	t.Helper()
	n, ok := v.(*types.AttributeValueMemberN)
	if !ok {
		t.Fatalf("%v is no number", v)
	}
	var i int64
	if _, err := fmt.Sscan(n.Value, &i); err != nil {
		t.Fatal(err)
	}
	return i
}

const notSaved = "The session was not saved"

func TestRefusedWrites(t *testing.T) {
	t.Parallel()
	past := number(time.Now().Add(-time.Minute).Unix())
	soon := number(time.Now().Add(10 * time.Minute).Unix())
	tests := []struct {
		name   string
		code   string // of another page, while the first has the session open
		row    attributes
		page   string // the rest of the first page
		writes bool   // it is not refused
		stored string // "-": no live session
	}{
		{name: "changed", code: `$_SESSION['n'] = 7;`, page: `$_SESSION['n']++;`, stored: `{"n":7}`},
		{name: "changed to what it was", code: `$_SESSION['n'] = 7; session_write_close(); session_start(); $_SESSION['n'] = 1;`, page: `$_SESSION['n']++;`, stored: `{"n":1}`},
		{name: "changed, and this page has changed nothing", code: `$_SESSION['n'] = 7;`, writes: true, stored: `{"n":7}`},
		{name: "touched", code: ``, page: `$_SESSION['n']++;`, writes: true, stored: `{"n":2}`},
		{name: "destroyed", code: `session_destroy();`, page: `$_SESSION['n']++;`, stored: `-`},
		{name: "destroyed, and this page has changed nothing", code: `session_destroy();`, writes: true, stored: `-`},
		{name: "destroyed and begun again", code: `session_destroy(); session_id($id); session_start(); $_SESSION['m'] = 1;`, page: `$_SESSION['n']++;`, stored: `{"m":1}`},
		{name: "new ID", code: `session_regenerate_id(true);`, page: `$_SESSION['n']++;`, stored: `-`},
		{name: "expired", row: attributes{"expires": past}, page: `$_SESSION['n']++;`, stored: `-`},
		{name: "expired, and this page has changed nothing", row: attributes{"expires": past}, writes: true, stored: `-`},
		// Of a stock handler, which leaves the version.
		{name: "changed by a stock page", row: attributes{"data": text("n|i:9;")}, page: `$_SESSION['n']++;`, stored: `{"n":9}`},
		// Of a Go page that gives the session a new ID.
		{name: "moved", row: attributes{"private": blob("marker"), "data": nil, "version": blob("16 bytes of token"), "expires": soon}, page: `$_SESSION['n']++;`, stored: `-`},
		{name: "moved, and this page has changed nothing", row: attributes{"private": blob("marker"), "data": nil, "version": blob("16 bytes of token"), "expires": soon}, writes: true, stored: `-`},
		{name: "destroyed by this page", page: `session_destroy(); global $handler; $handler->write(session_id() ?: 'id', 'n|i:3;');`, stored: `-`},
	}
	for _, tt := range tests {
		for _, versionless := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/versionless=%t", tt.name, versionless), func(t *testing.T) {
				t.Parallel()
				table := newTable(t)
				w, other := start(t, versioned(table, false)), start(t, versioned(table, false))
				if versionless { // of a stock handler
					put(t, table, "id", attributes{"data": text("n|i:1;"), "expires": soon})
				} else {
					w.run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)
				}
				w.run(t, open("id"))
				if tt.row != nil {
					change(t, table, "id", tt.row)
				} else if tt.name != "destroyed by this page" {
					other.run(t, open("id")+tt.code+` session_write_close();`)
				}
				if tt.writes {
					w.want(t, tt.page+` return session_write_close();`, `true`)
				} else {
					w.refused(t, tt.page+` session_write_close();`, notSaved)
				}
				if r := row(t, table, "id"); tt.row["private"] != nil && integer(t, r["expires"]) != integer(t, soon) {
					t.Error("the end of the marker has moved")
				}
				got := other.run(t, show("id"))
				if want := strings.Replace(tt.stored, "-", "[]", 1); got != want {
					t.Errorf("the session is then %s, want %s", got, want)
				}
			})
		}
	}
}

// PHP returns true from session_write_close(); only the warning tells.
func TestRefusalIsReported(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		w, throwing := start(t, s), start(t, s.with("throw", true))
		w.run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)
		destroy := func() { put(t, table, "id", attributes{"expires": number(1)}) }

		w.run(t, open("id"))
		destroy()
		a := w.page(t, `$_SESSION['n']++; return session_write_close();`)
		if string(a.Value) != "true" || len(a.Warnings) != 2 || a.Exception != "" {
			t.Errorf("a refused write: %+v", a)
		}
		if strings.Contains(strings.Join(a.Warnings, ""), "PHPSESSID") {
			t.Errorf("a warning has the ID of the session: %q", a.Warnings)
		}
		w.run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)

		throwing.run(t, open("id"))
		destroy()
		throwing.throws(t, `$_SESSION['n']++; return session_write_close();`, notSaved)
		throwing.want(t, `return session_status() === PHP_SESSION_NONE;`, `true`)
		throwing.want(t, open("id")+`$s = $_SESSION; $_SESSION['n'] = 8; session_write_close(); return $s;`, `[]`)
		w.want(t, show("id"), `{"n":8}`)
	})
}

func TestTwoPagesBeginASession(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		for id, first := range map[string]site{"versioned": s, "stock": stock(table, false)} {
			a, b := start(t, first), start(t, s)
			a.run(t, open(id))
			b.run(t, open(id))
			a.run(t, `$_SESSION['a'] = 1; session_write_close();`)
			b.refused(t, `$_SESSION['b'] = 1; session_write_close();`, notSaved)
			a.want(t, show(id), `{"a":1}`)
		}
	})
}

// A page that destroys a session which it has not begun begins none.
func TestDestroyedBeforeItBegan(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s)
		w.refused(t, open("id")+`session_destroy(); global $handler; $handler->write('id', 'n|i:3;');`, notSaved)
		if row(t, table, "id") != nil {
			t.Error("there is a row")
		}
	})
}

// The handlers of PHP differ in what they make of no values.
func TestEmptySession(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		for _, name := range []string{"php", "php_binary", "php_serialize"} {
			w := start(t, s.ini("session.serialize_handler", name))
			id := strings.ReplaceAll(name, "_", "")
			w.run(t, open(id)+`session_write_close();`)
			if row(t, table, id) != nil {
				t.Errorf("%s: a visitor without values has a row", name)
			}
			w.run(t, open(id)+`$_SESSION['n'] = 1; session_write_close();`)
			w.run(t, open(id)+`$_SESSION = []; session_write_close();`)
			w.want(t, show(id), `[]`)
		}
	})
}

// Nothing keeps a browser from beginning anew under the ID that it has.
func TestBeginAnew(t *testing.T) {
	t.Parallel()
	past, soon := number(time.Now().Add(-time.Hour).Unix()), number(time.Now().Add(time.Hour).Unix())
	rows := map[string]attributes{
		"none":                     nil,
		"expired":                  {"data": text("n|i:1;"), "expires": past},
		"expired, with a version":  {"data": text("n|i:1;"), "expires": past, "version": blob("12345678"), "created": number(1), "lock": blob("0123456789abcdef"), "lock_until": number(1)},
		"expired, with a lock":     {"data": text("n|i:1;"), "expires": past, "lock": number(1)},
		"expired marker":           {"private": blob("m"), "expires": past, "version": blob("12345678"), "created": number(1)},
		"marker":                   {"private": blob("m"), "expires": soon, "version": blob("12345678"), "created": number(1)},
		"marker and data of stock": {"private": blob("m"), "expires": soon, "version": blob("12345678"), "created": number(1), "data": text("n|i:1;")},
		"data without an end":      {"data": text("n|i:1;")},
	}
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s)
		n := 0
		for name, r := range rows {
			for _, first := range []string{`session_write_close();`, `session_abort();`, `session_destroy();`, `session_regenerate_id(true); session_abort();`, ``} {
				n++
				id := fmt.Sprint("id", n)
				if r != nil {
					put(t, table, id, r)
				}
				if first != "" {
					w.want(t, open(id)+`$s = $_SESSION;`+first+` return $s;`, `[]`)
				}
				now := row(t, table, id)
				if now["lock_until"] != r["lock_until"] && r["lock_until"] == nil {
					t.Errorf("%s: %q has locked the row", name, first)
				}
				if r["private"] != nil && now["private"] == nil {
					t.Errorf("%s: %q has removed the marker", name, first)
				}
				w.want(t, open(id)+`$s = $_SESSION; $_SESSION['m'] = 2; session_write_close(); return $s;`, `[]`)
				w.want(t, show(id), `{"m":2}`)
				now = row(t, table, id)
				if v := now["version"].(*types.AttributeValueMemberB).Value; len(v) != 8 || string(v) == "12345678" {
					t.Errorf("%s: the version of the new session is %x", name, v)
				}
				if now["private"] != nil || now["lock"] != nil || now["lock_until"] != nil || integer(t, now["created"]) == 1 {
					t.Errorf("%s: the row of the new session is %v", name, now)
				}
			}
		}
	})
}

// A marker that was replaced meanwhile, and one that was written meanwhile.
func TestBeginAnewTooLate(t *testing.T) {
	t.Parallel()
	soon := number(time.Now().Add(time.Hour).Unix())
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s)
		put(t, table, "id", attributes{"private": blob("m"), "expires": soon, "version": blob("12345678")})
		w.run(t, open("id"))
		put(t, table, "id", attributes{"private": blob("m"), "expires": soon, "version": blob("8765432112345678")})
		w.refused(t, `$_SESSION['n'] = 1; session_write_close();`, notSaved)
		w.run(t, open("new"))
		put(t, table, "new", attributes{"private": blob("m"), "expires": soon, "version": blob("12345678")})
		w.refused(t, `$_SESSION['n'] = 1; session_write_close();`, notSaved)
	})
}

// A logout that meets a new ID must not seem to have been one.
func TestDestroyAfterAMove(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		w := start(t, s)
		for _, code := range []string{`return session_destroy();`, `return session_regenerate_id(true);`} {
			w.run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)
			w.run(t, open("id"))
			put(t, table, "id", attributes{"private": blob("m"), "expires": number(time.Now().Add(time.Hour).Unix()), "version": blob("12345678")})
			w.refused(t, code, "moved")
			if row(t, table, "id")["private"] == nil {
				t.Errorf("%s has removed the marker", code)
			}
			w.page(t, `session_abort();`)
			put(t, table, "id", attributes{"expires": number(1)})
		}
	})
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		p := newProxy(t)
		s = s.through(p.URL())
		s.Client["retries"] = 1
		w := start(t, s)
		w.run(t, open("id")+`$_SESSION['n'] = 1; session_write_close();`)
		for _, f := range []proxy.Fault{proxy.DropRequest, proxy.InternalError, proxy.Throttle} {
			broken := func(r proxy.Request) proxy.Action { return proxy.Action{Fault: f} }
			p.SetRule(broken)
			w.throws(t, open("id"), "store failed")
			p.SetRule(nil)
			w.run(t, `if (session_status() === PHP_SESSION_ACTIVE) { throw new Exception('active'); }`)
			w.want(t, show("id"), `{"n":1}`)
			w.run(t, open("id"))
			p.SetRule(broken)
			w.refused(t, `$_SESSION['n']++; session_write_close();`, notSaved)
			p.SetRule(nil)
			w.want(t, show("id"), `{"n":1}`)
			w.run(t, open("id"))
			p.SetRule(broken)
			w.refused(t, `session_destroy();`, notSaved)
			p.SetRule(nil)
		}
	})
}

// An answer that is lost is no refusal, and the SDK's second attempt does not
// count twice.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		for _, fault := range []proxy.Fault{proxy.DropResponse, proxy.DropRequest} {
			p := newProxy(t)
			w := start(t, s.through(p.URL()))
			// Each page loses the answer to another of its requests.
			for n := 1; n <= 4; n++ {
				for _, tt := range []struct {
					name, before, code, after string
				}{
					{"change", `$_SESSION['n'] = 1;`, `$_SESSION['n']++;`, `{"n":2}`},
					{"touch", `$_SESSION['n'] = 1;`, ``, `{"n":1}`},
					{"empty", `$_SESSION['n'] = 1;`, `$_SESSION = [];`, `[]`},
					{"destroy", `$_SESSION['n'] = 1;`, `session_destroy();`, `[]`},
					{"destroy and begin", `$_SESSION['n'] = 1;`, `session_destroy(); session_id($id); session_start(); $_SESSION['m'] = 1;`, `{"m":1}`},
					{"begin", ``, `$_SESSION['n'] = 1;`, `{"n":1}`},
				} {
					id := fmt.Sprintf("%s%d%d", strings.ReplaceAll(tt.name, " ", ""), n, fault)
					w.run(t, open(id)+tt.before+` session_write_close();`)
					seen := 0
					p.SetRule(func(r proxy.Request) proxy.Action {
						if seen++; seen == n {
							return proxy.Action{Fault: fault}
						}
						return proxy.Action{}
					})
					a := w.page(t, open(id)+tt.code+` session_write_close();`)
					p.SetRule(nil)
					begins := strings.Contains(tt.name, "begin")
					if begins && fault == proxy.DropRequest && len(a.Warnings) > 0 {
						// A write that begins a session is sent once.
						w.want(t, show(id), `[]`)
						continue
					}
					if len(a.Warnings) > 0 || a.Exception != "" {
						t.Errorf("%s, request %d %v: %+v", tt.name, n, fault, a)
					}
					w.want(t, show(id), tt.after)
					if r := row(t, table, id); r["lock"] != nil {
						t.Errorf("%s, request %d %v: the lock was not freed", tt.name, n, fault)
					}
				}
			}
		}
	})
}

// The answer to a write is lost, and other pages write before it is sent again.
func TestLostAnswerBelowOtherWrites(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		others  string
		refused bool
		stored  string
	}{
		{"changed", `$_SESSION['m'] = 1; session_write_close(); session_start(); $_SESSION['m']++; session_write_close();`, false, `{"n":2,"m":2}`},
		{"destroyed", `session_destroy();`, true, `[]`},
		{"destroyed and begun", `session_destroy(); session_id($id); session_start(); $_SESSION['m'] = 1; session_write_close();`, true, `{"m":1}`},
	}
	connections(t, func(t *testing.T, table string, s site) {
		for _, begins := range []bool{false, true} {
			for i, tt := range tests {
				id := fmt.Sprintf("id%d%t", i, begins)
				p := newProxy(t)
				w, other := start(t, s.through(p.URL())), start(t, s)
				if !begins {
					w.run(t, open(id)+`$_SESSION['n'] = 1; session_write_close();`)
				}
				w.run(t, open(id))
				errs := make(chan error, 1)
				p.SetRule(proxy.Nth("UpdateItem", 1, proxy.Action{Fault: proxy.DropResponse, After: func() {
					a, err := other.try(open(id) + tt.others)
					if err == nil && (a.Exception != "" || len(a.Warnings) > 0) {
						err = errors.New(fmt.Sprint(a))
					}
					errs <- err
				}}))
				if code := `$_SESSION['n'] = 2; session_write_close();`; tt.refused {
					w.refused(t, code, notSaved)
				} else {
					w.run(t, code)
				}
				p.SetRule(nil)
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
				if got := w.run(t, show(id)); got != tt.stored {
					t.Errorf("%s, begins %t: the session is then %s, want %s", tt.name, begins, got, tt.stored)
				}
			}
		}
	})
}

// A throttled request was not applied, so even a write that begins a session is sent
// again.
func TestThrottled(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		p := newProxy(t)
		w := start(t, s.through(p.URL()))
		w.run(t, open("id"))
		p.SetRule(proxy.First(proxy.Nth("UpdateItem", 1, proxy.Action{Fault: proxy.Throttle}),
			proxy.Nth("UpdateItem", 2, proxy.Action{Fault: proxy.Throttle})))
		w.run(t, `$_SESSION['n'] = 1; session_write_close();`)
		w.want(t, show("id"), `{"n":1}`)
	})
}

func TestDeleteExpired(t *testing.T) {
	t.Parallel()
	connections(t, func(t *testing.T, table string, s site) {
		p := newProxy(t)
		w, other := start(t, s.through(p.URL())), start(t, s)
		past, soon := number(time.Now().Add(-time.Hour).Unix()), number(time.Now().Add(time.Hour).Unix())
		put(t, table, "old", attributes{"data": text("n|i:1;"), "expires": past})
		put(t, table, "locked", attributes{"data": text("n|i:1;"), "expires": past, "lock": number(1)})
		put(t, table, "live", attributes{"data": text("n|i:1;"), "expires": soon})
		put(t, table, "again", attributes{"data": text("n|i:1;"), "expires": past})
		errs := make(chan error, 1)
		p.SetRule(proxy.Nth("Scan", 1, proxy.Action{After: func() {
			_, err := other.try(open("again") + `$_SESSION['m'] = 1; session_write_close();`)
			errs <- err
		}}))
		w.run(t, `global $handler; $handler->garbageCollect();`)
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, id := range []string{"old", "locked", "live", "again"} {
			if row(t, table, id) != nil {
				left = append(left, id)
			}
		}
		if !slices.Equal(left, []string{"live", "again"}) {
			t.Errorf("left: %v", left)
		}
	})
}
