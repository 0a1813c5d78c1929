package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/codec/php"
)

// phpItems returns the items that the handler of the AWS SDK for PHP has written, with
// that type of data and that serialize handler; "" for all of them.
func phpItems(t testing.TB, dataType, handler string) map[string]object {
	t.Helper()
	text, err := os.ReadFile("testdata/php.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Type, Handler string
		Item          object
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	items := map[string]object{}
	for _, i := range all {
		if (dataType == "" || i.Type == dataType) && (handler == "" || i.Handler == handler) {
			// The IDs of that recording are shorter than those of PHP.
			key := phpKey(strings.TrimPrefix(keyOf(i.Item), phpSessionName+"_item-"))
			i.Item["id"] = object{"S": key}
			i.Item["expires"] = object{"N": "4000000000"}
			items[key] = i.Item
		}
	}
	return items
}

func phpKey(name string) string {
	return phpSessionName + "_" + name + strings.Repeat("0", 40-len(name))
}

// versioned gives items versions.
func versioned(items map[string]object) map[string]object {
	all := map[string]object{}
	for key, item := range items {
		item = maps.Clone(item)
		item["version"], item["created"] = object{"B": "MTIzNDU2Nzg="}, object{"N": "1700000000000"}
		all[key] = item
	}
	return all
}

func TestDoctorRecognisesPHP(t *testing.T) {
	rows := func(all ...map[string]object) map[string]object {
		rows := map[string]object{}
		for _, some := range all {
			maps.Copy(rows, some)
		}
		return rows
	}
	row := func(key string, more object) map[string]object {
		item := object{"id": object{"S": key}}
		maps.Copy(item, more)
		return map[string]object{key: item}
	}
	dead := row(phpKey("dead"), object{"lock": object{"N": "1"}})
	locked := row(phpKey("locked"), object{"lock": object{"N": "1"}, "expires": object{"N": "4000000000"}, "data": object{"S": `a|i:1;`}})
	ours := versioned(row(phpKey("ours"), object{
		"expires": object{"N": "4000000000"},
		"data":    object{"B": base64.StdEncoding.EncodeToString(encoded(t, codec.MessagePack{}, map[string]any{"a": "b"}))},
	}))
	marker := versioned(row(phpKey("marker"), object{"expires": object{"N": "4000000000"}, "private": object{"B": "eHg="}}))
	digest := versioned(row("0123456789_bcdefghijklmnopqrstuv", object{
		"expires": object{"N": "4000000000"},
		"data":    object{"B": base64.StdEncoding.EncodeToString(encoded(t, codec.MessagePack{}, map[string]any{"a": "b"}))},
	}))
	for name, tt := range map[string]struct {
		rows  map[string]object
		flags string
		want  *phpResult // without Handlers
		code  int
		says  []string
	}{
		"no records":        {rows: rows()},
		"none of PHP":       {rows: digest},
		"none, with --php":  {rows: digest, flags: "--php=versioned", says: []string{"None of 1 record"}},
		"stock, binary":     {rows: phpItems(t, "binary", "php"), want: &phpResult{Connection: "stock-unlocked", SessionName: "PHPSESSID", SerializeHandler: "php", DataType: "binary", Rows: 5}, says: []string{"--php stock-unlocked.", "5 sessions have no version"}},
		"stock, string":     {rows: phpItems(t, "string", "php_binary"), want: &phpResult{Connection: "stock-unlocked", SessionName: "PHPSESSID", SerializeHandler: "php_binary", DataType: "string", Rows: 4}, says: []string{"--serialize-handler php_binary", "UTF8: true", "Handler: php.Binary", "DataType: dynamodb.String"}},
		"php_serialize":     {rows: phpItems(t, "binary", "php_serialize"), want: &phpResult{Connection: "stock-unlocked", SessionName: "PHPSESSID", SerializeHandler: "php_serialize", DataType: "binary", Rows: 5}},
		"versioned":         {rows: versioned(phpItems(t, "string", "php")), want: &phpResult{Connection: "versioned", SessionName: "PHPSESSID", SerializeHandler: "php", DataType: "string", Rows: 4, Versioned: 4}, says: []string{"--php versioned.", "All sessions have versions"}},
		"with a marker":     {rows: rows(marker, versioned(phpItems(t, "string", "php"))), want: &phpResult{Connection: "versioned", SessionName: "PHPSESSID", SerializeHandler: "php", DataType: "string", Rows: 4, Versioned: 4, Private: 1}},
		"two handlers":      {rows: phpItems(t, "string", ""), want: &phpResult{Connection: "stock-unlocked", SessionName: "PHPSESSID", DataType: "string", Rows: 12}, code: codeFound, says: []string{"No serialize handler fits all sessions"}},
		"locks":             {rows: rows(dead, locked), want: &phpResult{Connection: "stock-locking", SessionName: "PHPSESSID", SerializeHandler: "php", DataType: "string", Rows: 1, Locked: 1, DeadLocks: 1}, says: []string{"1 record has a lock", "one has its lock"}},
		"a dead lock alone": {rows: dead, want: &phpResult{Connection: "stock-locking", SessionName: "PHPSESSID", DeadLocks: 1}, says: []string{"do not tell the serialize handler"}},
		"ours":              {rows: rows(ours, phpItems(t, "string", "php")), want: &phpResult{Connection: "stock-unlocked", SessionName: "PHPSESSID", SerializeHandler: "php", DataType: "string", Rows: 4, Ours: 1}, code: codeFound, says: []string{"it destroys them when it opens them"}},
		"encrypted":         {rows: rows(row(phpKey("x"), object{"data": object{"S": "{xx"}, "expires": object{"N": "4000000000"}}), phpItems(t, "string", "php")), want: &phpResult{Connection: "stock-unlocked", SessionName: "PHPSESSID", SerializeHandler: "php", DataType: "string", Rows: 4, Unreadable: 1}, says: []string{"neither side can read"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeTable(t)
			f.rows = tt.rows
			args := []string{"doctor", "--reads=0"}
			if tt.flags != "" {
				args = append(args, tt.flags)
			}
			got := f.ctl(t.Context(), "", args...)
			if got.code != tt.code {
				t.Errorf("got %+v", got)
			}
			for _, says := range tt.says {
				if !strings.Contains(got.stdout, says) {
					t.Errorf("it does not say %q:\n%s", says, got.stdout)
				}
			}
			for key := range tt.rows {
				if strings.HasPrefix(key, phpSessionName) && strings.Contains(got.stdout+got.stderr, key) {
					t.Errorf("it prints a key: %+v", got)
				}
			}
			got = f.ctl(t.Context(), "", append(args, "--json")...)
			var result doctorResult
			if err := json.Unmarshal([]byte(got.stdout), &result); err != nil {
				t.Fatal(err)
			}
			if result.PHP != nil {
				result.PHP.Handlers = nil
			}
			if !reflect.DeepEqual(result.PHP, tt.want) {
				t.Errorf("got %+v, want %+v", result.PHP, tt.want)
			}
		})
	}
}

func TestPHPFlags(t *testing.T) {
	for flags, want := range map[string]string{
		"--php=":           "--php is empty",
		"--php=stock":      "versioned, stock-locking or stock-unlocked",
		"--session-name=X": "add --php",
		"--php-user=user":  "add --php",
		"--php=versioned|--serialize-handler=wddx":           "php, php_binary or php_serialize",
		"--php=versioned|--session-name=12":                  "not digits only",
		"--php=versioned|--session-name=a b":                 "letters and digits",
		"--php=versioned|--codec=json":                       "--codec does not go with --php",
		"--php=versioned|--php-user=":                        "needs the name",
		"--php=versioned|--php-user-int":                     "needs --php-user",
		"--php=versioned|--redis=redis://localhost":          "--php is for DynamoDB",
		"--php=versioned|--user=ann":                         "--user needs --php-user",
		"migrate|--to-table=new|--php=versioned":             "keep Config.PHP",
		"bench|--php=versioned":                              "measure on one of its own",
		"--php=versioned|--session-name=a;b|--php-user=user": "letters and digits",
	} {
		t.Run(flags, func(t *testing.T) {
			words := strings.Split(flags, "|")
			if strings.HasPrefix(flags, "-") {
				words = append([]string{"list"}, words...)
			}
			got := sessionctl(t.Context(), words...)
			if got.code != codeUsage || !strings.Contains(got.stderr, want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestKeysOfPHPAreNotPrinted: each has a token.
func TestKeysOfPHPAreNotPrinted(t *testing.T) {
	for _, a := range []*app{{}, {globals: globals{php: phpFlags{connection: "versioned", sessionName: "sid"}}}} {
		for _, key := range []string{"PHPSESSID_0123456789abcdefghijkl", "PHPSESSID_" + strings.Repeat("a", 32), "sid_0123456789abcdefghijkl"} {
			if key[:3] == "sid" && !a.php.on() {
				continue
			}
			if got := a.key(key); !isAlias(got) {
				t.Errorf("%q is printed as %q", key, got)
			}
		}
	}
}

func TestCutPHPKey(t *testing.T) {
	id := strings.Repeat("a", 26)
	for key, want := range map[string]string{
		"PHPSESSID_" + id: "PHPSESSID", "my_app_" + id: "my_app", "PHPSESSID_" + id + "_x": "", "_" + id: "", id: "", "PHPSESSID_": "", "": "",
		"PHPSESSID_a b" + id: "", "12_" + id: "", "a\x1b_" + id: "", "PHPSESSID_owner." + id: "PHPSESSID", "sid_" + id + ",-": "sid",
	} {
		if got, ok := cutPHPKey(key); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %t", key, got, ok)
		}
	}
}

// Whatever PHP has stored, doctor and show print what can be seen.
func FuzzPHP(f *testing.F) {
	f.Add("PHPSESSID_"+strings.Repeat("a", 32), []byte(`a|s:3:"`+"\x1b[2"+`";o|O:3:"A\B":1:{s:4:"`+"\x00*\x00"+`x";i:1;}`), true)
	f.Add(hostile+"_"+strings.Repeat("a", 32), []byte(`a:1:{s:1:"a";E:3:"A:B";}`), false)
	f.Add("a_"+strings.Repeat("a", 32), []byte("\x01aC:1:\"A\":2:{\x9bx}"), false)
	for _, item := range phpItems(f, "string", "") {
		if data, ok := item["data"].(object); ok {
			f.Add(keyOf(object{"id": item["id"]}), []byte(data["S"].(string)), true)
		}
	}
	f.Fuzz(func(t *testing.T, key string, data []byte, stock bool) {
		var out strings.Builder
		d := &doctor{app: &app{stdout: &output{w: &out}}}
		item := map[string]types.AttributeValue{
			"id": &types.AttributeValueMemberS{Value: key}, "data": &types.AttributeValueMemberB{Value: data}, "expires": &types.AttributeValueMemberN{Value: "1"},
		}
		if stock {
			item["lock"] = &types.AttributeValueMemberN{Value: "1"}
		}
		var c phpCount
		if r, ok := newPHPRow(item, &dynamodb.Config{KeyAttribute: "id", DataAttribute: "data", ExpiresAttribute: "expires", LockAttribute: "lock", VersionAttribute: "version", CreatedAttribute: "created", PrivateAttribute: "private"}); ok {
			c.add(r)
		}
		if r, ok := c.result(); ok {
			d.tellPHP(r)
		}
		v := shown{Kind: "session", State: stateLive, now: time.Unix(0, 0)}
		for i := range phpHandlers {
			c := php.Codec{Handler: php.Handler(i)}
			values, err := c.Split(data)
			if err != nil {
				continue
			}
			for name, encoded := range values {
				var value any
				if c.Unmarshal(encoded, &value) != nil {
					continue
				}
				sv := shownValue{Name: asText(name), Type: typeName(value), Value: jsonable(value)}
				if text, err := json.Marshal(sv); err != nil || !utf8.Valid(text) {
					t.Fatalf("%v: %s", err, text)
				}
				v.Values = append(v.Values, sv)
			}
		}
		v.write(d.stdout)
		if err := errors.Join(seen(out.String()), d.stdout.err); err != nil {
			t.Fatal(err)
		}
		if i := strings.LastIndexByte(key, '_'); i >= 0 && len(key)-i > 22 && strings.Contains(out.String(), key[i+1:]) && !strings.Contains(string(data), key[i+1:]) {
			t.Fatalf("a token in %q", out.String())
		}
	})
}
