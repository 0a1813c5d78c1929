package main

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

// with is a table in order, with other answers.
func with(others map[string]answer) map[string]answer {
	all := goodTable()
	maps.Copy(all, others)
	return all
}

func wrongKey() answer {
	return says(object{"Table": object{
		"TableName": "sessions", "TableStatus": "ACTIVE",
		"KeySchema":            []any{object{"AttributeName": "sid", "KeyType": "HASH"}},
		"AttributeDefinitions": []any{object{"AttributeName": "sid", "AttributeType": "S"}},
	}})
}

func TestTableCheck(t *testing.T) {
	tests := []struct {
		name string
		does map[string]answer
		code int
		want string // URL stands for that of the server
	}{
		{
			"good", goodTable(), codeDone,
			`The table "sessions" in us-east-1 at URL can be used: on demand, not protected against deletion, about 1,234,567 items and 3.0 GB; TTL is on attribute "expires".
`,
		},
		{
			"missing", with(map[string]answer{"DescribeTable": refuses(400, "ResourceNotFoundException", "no")}), codeFound,
			`There is no table "sessions" in us-east-1 at URL. Create it with "sessionctl table create", or correct --table or --region. DynamoDB Local, unless it was started with -sharedDb, has tables of its own for each region and access key.
`,
		},
		{
			"wrong", with(map[string]answer{
				"DescribeTable":      wrongKey(),
				"DescribeTimeToLive": says(object{"TimeToLiveDescription": object{"TimeToLiveStatus": "DISABLED"}}),
			}), codeFound,
			`The table "sessions" in us-east-1 at URL cannot be used as it is:
- Its key is "sid" and not "id": set --key-attribute to "sid", or use another table.
- TTL is off, so expired sessions would be kept for ever: switch it on for attribute "expires", as "sessionctl table create" does.
`,
		},
		{
			"half allowed", with(map[string]answer{
				"DescribeTable":      wrongKey(),
				"DescribeTimeToLive": refuses(400, "AccessDeniedException", "no"),
			}), codeFound,
			`The table "sessions" in us-east-1 at URL cannot be used as it is:
- Its key is "sid" and not "id": set --key-attribute to "sid", or use another table.
- The AWS credentials do not allow dynamodb:DescribeTimeToLive on table "sessions" in us-east-1 at URL. Grant it: "sessionctl iam set-up" prints the policy.
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDynamoDB(t, tt.does)
			got := sessionctl(t.Context(), "table", "check", "--endpoint", f.URL)
			if want := strings.ReplaceAll(tt.want, "URL", f.URL); got.code != tt.code || got.stdout != want || got.stderr != "" {
				t.Errorf("got code %d, %s%s\nwant %s", got.code, got.stdout, got.stderr, want)
			}
			got = sessionctl(t.Context(), "table", "check", "--json", "--endpoint", f.URL)
			var result tableResult
			if err := json.Unmarshal([]byte(got.stdout), &result); err != nil || *result.OK != (tt.code == codeDone) || got.code != tt.code {
				t.Errorf("got %v, code %d, %s", err, got.code, got.stdout)
			}
			if !*result.OK && !strings.Contains(tt.want, strings.ReplaceAll(result.Problems[0], f.URL, "URL")) {
				t.Errorf("got %s", got.stdout)
			}
		})
	}
}

// TestTableDelete has what must not be deleted.
func TestTableDelete(t *testing.T) {
	tests := []struct {
		name string
		does map[string]answer
		want string
	}{
		{
			"another key", with(map[string]answer{"DescribeTable": wrongKey()}),
			`The table "sessions" in us-east-1 at URL does not have the key of a session table, "id" of type S: nothing was deleted.
Give --key-attribute if its key has another name; "sessionctl table check" tells. If it is not a session table, leave it to the aws command.
`,
		},
		{
			"protected", with(map[string]answer{"DeleteTable": refuses(400, "ValidationException",
				"Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.")}),
			`The table "sessions" in us-east-1 at URL is protected against deletion.
If it is to go: aws dynamodb update-table --table-name sessions --no-deletion-protection-enabled
`,
		},
		{
			"busy", with(map[string]answer{"DeleteTable": refuses(400, "ResourceInUseException", "Table is being created: sessions")}),
			`The table "sessions" in us-east-1 at URL is busy: it is being created, changed or deleted.
Try again in a minute.
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDynamoDB(t, tt.does)
			got := sessionctl(t.Context(), "table", "delete", "--yes=sessions", "--endpoint", f.URL)
			if want := "sessionctl: " + strings.ReplaceAll(tt.want, "URL", f.URL); got.code != codeFailed || got.stderr != want || got.stdout != "" {
				t.Errorf("got code %d, %s%s\nwant %s", got.code, got.stdout, got.stderr, want)
			}
			if tt.does["DeleteTable"] == nil && strings.Contains(strings.Join(f.sent, " "), "DeleteTable") {
				t.Error("it was asked to delete the table")
			}
		})
	}
}

func TestTableCreate(t *testing.T) {
	enabling := says(object{"TimeToLiveDescription": object{"AttributeName": "expires", "TimeToLiveStatus": "ENABLING"}})
	tests := []struct {
		name   string
		does   map[string]answer
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{
			"there already", goodTable(), nil, codeDone,
			"The table \"sessions\" in us-east-1 at URL was there already, and can be used; TTL is on attribute \"expires\".\n",
			"Checking table \"sessions\" in us-east-1 at URL ...\n",
		},
		{
			"no patience", with(map[string]answer{"DescribeTimeToLive": enabling}), []string{"--timeout=300ms"}, codeFailed, "",
			"Checking table \"sessions\" in us-east-1 at URL ...\nsessionctl: Stopped waiting: table \"sessions\" in us-east-1 at URL, or its TTL on \"expires\", is still being made by DynamoDB.\n" +
				"Run the command again to wait for it.\n",
		},
		{
			"another key", with(map[string]answer{"DescribeTable": wrongKey()}), nil, codeFailed, "",
			"Checking table \"sessions\" in us-east-1 at URL ...\nsessionctl: The table \"sessions\" cannot be used as it is: its key is \"sid\" and not \"id\": set --key-attribute to \"sid\", or use another table.\n",
		},
		{
			"not allowed", with(map[string]answer{
				"DescribeTable": refuses(400, "ResourceNotFoundException", "no"),
				"CreateTable":   refuses(400, "AccessDeniedException", "no"),
			}), nil, codeFailed, "",
			"Creating table \"sessions\" in us-east-1 at URL ...\nsessionctl: The AWS credentials do not allow dynamodb:CreateTable on table \"sessions\" in us-east-1 at URL.\n" +
				"Grant it: \"sessionctl iam set-up\" prints the policy.\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDynamoDB(t, tt.does)
			got := sessionctl(t.Context(), append([]string{"table", "create", "--endpoint", f.URL}, tt.args...)...)
			got.stdout, got.stderr = strings.ReplaceAll(got.stdout, f.URL, "URL"), strings.ReplaceAll(got.stderr, f.URL, "URL")
			if got != (outcome{tt.code, tt.stdout, tt.stderr}) {
				t.Errorf("got\n%+v\nwant\n%+v", got, outcome{tt.code, tt.stdout, tt.stderr})
			}
		})
	}
}
