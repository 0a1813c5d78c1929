package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec/php"
)

// phpItems returns the items that the handler of the AWS SDK for PHP has written, with
// that type of data and that serialize handler, by their case.
func phpItems(t *testing.T, dataType, handler string) map[string]map[string]types.AttributeValue {
	t.Helper()
	text, err := os.ReadFile("../cmd/sessionctl/testdata/php.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Case, Type, Handler string
		Item                map[string]struct{ S, N, B *string }
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	items := map[string]map[string]types.AttributeValue{}
	for _, i := range all {
		if i.Type != dataType || i.Handler != handler {
			continue
		}
		item := map[string]types.AttributeValue{}
		for name, v := range i.Item {
			switch {
			case v.S != nil:
				item[name] = &types.AttributeValueMemberS{Value: *v.S}
			case v.N != nil:
				item[name] = &types.AttributeValueMemberN{Value: *v.N}
			default:
				data, err := base64.StdEncoding.DecodeString(*v.B)
				if err != nil {
					t.Fatal(err)
				}
				item[name] = &types.AttributeValueMemberB{Value: data}
			}
		}
		item["id"] = &types.AttributeValueMemberS{Value: "PHPSESSID_" + phpID(i.Case)}
		item["expires"] = seconds(time.Now().Add(time.Hour))
		items[i.Case] = item
	}
	return items
}

// phpID is an ID of PHP.
func phpID(name string) string { return name + strings.Repeat("0", 32-len(name)) }

func seconds(t time.Time) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: fmt.Sprint(t.Unix())}
}

// php runs the commands on tables that PHP has written.
func (c *sessionctl) php(t *testing.T) {
	for _, dataType := range []string{"string", "binary"} {
		for _, handler := range []string{"php", "php_binary", "php_serialize"} {
			for _, connection := range []string{"versioned", "stock-locking", "stock-unlocked"} {
				t.Run(dataType+"/"+handler+"/"+connection, func(t *testing.T) {
					t.Parallel()
					c.phpTable(t, dataType, handler, connection)
				})
			}
		}
	}
	t.Run("index", c.phpIndex)
}

func (c *sessionctl) phpTable(t *testing.T, dataType, handler, connection string) {
	name := bareTable(t, "id")
	put := func(item map[string]types.AttributeValue) {
		t.Helper()
		if _, err := client().PutItem(t.Context(), &sdk.PutItemInput{TableName: &name, Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	items := phpItems(t, dataType, handler)
	for _, item := range items {
		if connection == "versioned" {
			item["version"] = &types.AttributeValueMemberB{Value: []byte("12345678")}
			item["created"] = &types.AttributeValueMemberN{Value: fmt.Sprint(time.Now().UnixMilli())}
		}
		put(item)
	}
	gone := maps.Clone(items["seed"])
	gone["id"], gone["expires"] = &types.AttributeValueMemberS{Value: "PHPSESSID_" + phpID("gone")}, seconds(time.Now().Add(-48*time.Hour))
	put(gone)
	for name, more := range map[string]map[string]types.AttributeValue{
		"phantom": {"lock": &types.AttributeValueMemberN{Value: "1"}},
		"locked":  {"lock": &types.AttributeValueMemberN{Value: "1"}, "expires": gone["expires"], "data": gone["data"]},
	} {
		item := map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: "PHPSESSID_" + phpID(name)}}
		maps.Copy(item, more)
		put(item)
	}

	flags := []string{"--php", connection}
	if handler != "php" {
		flags = append(flags, "--serialize-handler", handler)
	}
	with := func(args ...string) []string { return on(name, append(args, flags...)...) }
	var printed strings.Builder
	run := func(code int, stdout, stderr string, args ...string) string {
		t.Helper()
		out := c.run(t, code, stdout, stderr, with(args...)...)
		printed.WriteString(out)
		return out
	}
	// The doctor finds the flags by itself. A bare table has no TTL.
	found := c.run(t, 3, `"session_name": "PHPSESSID"`, "", on(name, "doctor", "--json", "--reads=0")...)
	for _, want := range []string{`"serialize_handler": "` + handler + `"`, `"data_type": "` + dataType + `"`} {
		if !strings.Contains(found, want) {
			t.Errorf("the doctor does not say %s:\n%s", want, found)
		}
	}
	run(3, "PHP uses this table", "", "doctor", "--reads=0")

	var aliases []string
	for line := range strings.Lines(run(0, "", "", "list", "--live", "--json", "--limit=0")) {
		var l struct{ Key, State string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.State != "live" || !strings.HasPrefix(l.Key, "~") {
			t.Errorf("got %s, %v", line, err)
		}
		aliases = append(aliases, l.Key)
	}
	if len(aliases) != len(items) {
		t.Errorf("%d of %d are listed", len(aliases), len(items))
	}
	run(0, fmt.Sprintf(`"live": %d`, len(items)), "", "stats", "--json")
	user := []string{"--php-user", "user.name"}
	shown := ""
	for _, alias := range aliases {
		shown += run(0, "", "", append(user, "show", "--values", alias)...)
	}
	want := []string{"jeremy", "admin", `"qty":1.5`}
	if dataType == "binary" {
		want = append(want, "gAD/") // which is no text
	}
	for _, want := range want {
		if !strings.Contains(shown, want) {
			t.Errorf("show does not print %q:\n%s", want, shown)
		}
	}
	cmd := c.command(t, with("show", "--token-stdin", "--json")...)
	cmd.Stdin = strings.NewReader("PHPSESSID=" + phpID("nested") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"name": "cart"`) {
		t.Errorf("%v: %s", err, out)
	}

	run(0, "", "No live session is bound to", append(user, "revoke", "--user=nobody", "--yes")...)
	run(0, "~", "", append(user, "list", "--user=jeremy")...)
	run(0, "would revoke ~", "", append(user, "revoke", "--user=jeremy", "--dry-run")...)
	run(0, "revoked ~", "", append(user, "revoke", "--user=jeremy", "--yes")...)
	run(0, "", "No live session is bound to", append(user, "revoke", "--user=jeremy", "--yes")...)
	left := func() []string {
		out, err := client().Scan(t.Context(), &sdk.ScanInput{TableName: &name})
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, item := range out.Items {
			keys = append(keys, item["id"].(*types.AttributeValueMemberS).Value)
		}
		slices.Sort(keys)
		return keys
	}
	if keys := left(); slices.Contains(keys, "PHPSESSID_"+phpID("seed")) || len(keys) != len(items)+2 {
		t.Errorf("left are %v", keys)
	}
	for _, item := range items {
		if key := item["id"].(*types.AttributeValueMemberS).Value; strings.Contains(printed.String(), key[len("PHPSESSID_"):]) {
			t.Errorf("a key is printed: %s", key)
		}
	}
	run(0, "deleted", "", "sweep")
	if keys := left(); slices.Contains(keys, "PHPSESSID_"+phpID("gone")) || len(keys) != len(items)-1 {
		t.Errorf("after a sweep, left are %v", keys)
	}
	run(0, "", "", "revoke", "--everyone", "--yes")
	if keys := left(); len(keys) != 0 {
		t.Errorf("after all were revoked, left are %v", keys)
	}
}

// phpIndex has sessions that a Go page and a PHP page have logged in.
func (c *sessionctl) phpIndex(t *testing.T) {
	t.Parallel()
	name := bareTable(t, "id")
	b, err := dynamodb.NewFromClient(client(), dynamodb.Config{Table: name, PHP: dynamodb.PHPConfig{Connection: dynamodb.VersionedConnection}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(b, session.Config{
		Codec: php.Codec{User: "user"}, Tokens: dynamodb.PHPTokens(), StoreKey: dynamodb.PHPStoreKey("PHPSESSID"),
		Cookie: session.Cookie{Name: "PHPSESSID"}, IdleTimeout: 24 * time.Minute, Owners: session.OwnersConfig{Index: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	var tokens []string
	for range 2 {
		s := m.Start()
		if err := s.Login("ann"); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Rotate(); err != nil {
			t.Fatal(err)
		}
		if err := s.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, s.Token().Reveal())
	}
	if _, err := client().PutItem(t.Context(), &sdk.PutItemInput{TableName: &name, Item: map[string]types.AttributeValue{
		"id": &types.AttributeValueMemberS{Value: "PHPSESSID_" + phpID("login")}, "expires": seconds(time.Now().Add(time.Hour)),
		"data": &types.AttributeValueMemberB{Value: []byte(`user|s:3:"ann";`)},
	}}); err != nil {
		t.Fatal(err)
	}
	with := func(args ...string) []string {
		return on(name, append(args, "--php=versioned", "--php-user=user")...)
	}
	if out := c.run(t, 0, "", "", with("stats", "--json")...); !strings.Contains(out, `"live": 3`) || !strings.Contains(out, `"moved": 2`) || !strings.Contains(out, `"index": 1`) {
		t.Errorf("got %s", out)
	}
	if out := c.run(t, 0, "~", "", with("list", "--user=ann", "--json")...); strings.Count(out, "\n") != 3 {
		t.Errorf("got %s", out)
	}
	c.run(t, 0, "revoked ~", "", with("revoke", "--user=ann", "--yes")...)
	for _, token := range append(tokens, phpID("login")) {
		if _, err := m.Open(t.Context(), token); err == nil {
			t.Error("a session is alive")
		}
	}
}
