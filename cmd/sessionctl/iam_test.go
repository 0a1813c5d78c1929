package main

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestIAM(t *testing.T) {
	tests := []struct {
		args     []string
		resource string
		actions  []string
	}{
		{[]string{"application"}, "arn:aws:dynamodb:*:*:table/sessions", []string{"dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"}},
		{
			[]string{"sweeper", "--region", "cn-north-1", "--account", "123456789012", "--table", "shop"},
			"arn:aws-cn:dynamodb:cn-north-1:123456789012:table/shop", []string{"dynamodb:Scan", "dynamodb:DeleteItem", "dynamodb:DescribeTable"},
		},
		{
			[]string{"set-up", "--partition", "aws-iso", "--region", "us-iso-east-1", "--json"},
			"arn:aws-iso:dynamodb:us-iso-east-1:*:table/sessions",
			[]string{"dynamodb:CreateTable", "dynamodb:DescribeTable", "dynamodb:UpdateTimeToLive", "dynamodb:DescribeTimeToLive", "dynamodb:TagResource"},
		},
		{
			[]string{"operator"}, "arn:aws:dynamodb:*:*:table/sessions",
			[]string{"dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:GetItem", "dynamodb:Scan", "dynamodb:UpdateItem", "dynamodb:DeleteItem"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.args[0], func(t *testing.T) {
			got := sessionctl(t.Context(), append([]string{"iam"}, tt.args...)...)
			var p policy
			if err := json.Unmarshal([]byte(got.stdout), &p); err != nil || got.code != 0 || got.stderr != "" {
				t.Fatalf("got %v, %+v", err, got)
			}
			if p.Version != "2012-10-17" || len(p.Statement) != 1 {
				t.Fatalf("got %+v", p)
			}
			if s := p.Statement[0]; s.Effect != "Allow" || s.Resource != tt.resource || !slices.Equal(s.Action, tt.actions) {
				t.Errorf("got %+v", s)
			}
		})
	}
	if got := sessionctl(t.Context(), "iam", "application", "--backend", "redis", "--prefix", "shop:"); got.code != 0 ||
		got.stdout != "~shop:* +eval +evalsha +time +exists +hmget +hset +pexpireat +del\n" {
		t.Errorf("got %+v", got)
	}
}
