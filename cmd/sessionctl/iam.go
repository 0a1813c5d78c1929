package main

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// role is somebody who works with the sessions, and what he may do.
type role struct {
	name, what string
	actions    []string // of DynamoDB
	commands   string   // of Redis
}

func roles() []role {
	return []role{
		{
			"application", "serves sessions",
			[]string{"GetItem", "UpdateItem", "DeleteItem"},
			"+eval +evalsha +time +exists +hmget +hset +pexpireat +del",
		},
		{
			"sweeper", "runs sweep, with DescribeTable for the total of the progress bar",
			[]string{"Scan", "DeleteItem", "DescribeTable"},
			"", // Redis sweeps by itself
		},
		{
			"set-up", "runs table create and table check, and CreateTable and CheckTable",
			[]string{"CreateTable", "DescribeTable", "UpdateTimeToLive", "DescribeTimeToLive", "TagResource"},
			"", // there is nothing to set up
		},
		{
			"operator", "runs list, show, stats, revoke, migrate, table check and doctor",
			[]string{"DescribeTable", "DescribeTimeToLive", "GetItem", "Scan", "UpdateItem", "DeleteItem"},
			"+eval +evalsha +time +exists +hmget +hset +pexpireat +del +scan +hexists +hstrlen +dbsize +ping +info",
		},
	}
}

// roleOf is the role that a command is for.
func roleOf(c *cobra.Command) string {
	switch c.CommandPath() {
	case "sessionctl sweep":
		return "sweeper"
	case "sessionctl table create", "sessionctl table check":
		return "set-up"
	case "sessionctl bench":
		return "application"
	}
	return "operator"
}

// grant says how a command gets the permission for an action.
func (a *app) grant(action string) string {
	for _, r := range roles() {
		if r.name == a.role && slices.Contains(r.actions, strings.TrimPrefix(action, "dynamodb:")) {
			return fmt.Sprintf("Grant it: \"sessionctl iam %s\" prints the policy.", r.name)
		}
	}
	return "Grant it. No policy of \"sessionctl iam\" includes it."
}

// redisRole is the role of the command where it has one in Redis.
func (a *app) redisRole() string {
	if a.role == "application" {
		return a.role
	}
	return "operator"
}

func (a *app) iamCommand() *cobra.Command {
	var names, about []string
	for _, r := range roles() {
		names = append(names, r.name)
		about = append(about, fmt.Sprintf("  %-12s %s", r.name, r.what))
	}
	var account, partition string
	c := &cobra.Command{
		Use:   "iam ROLE",
		Short: "Print the least privileges for a role",
		Long: `iam prints the policy with the least privileges for a role, for the table and the
region of the flags. It sends no request, and needs no credentials. For Redis it
prints the rule for ACL SETUSER.

Roles:
` + strings.Join(about, "\n"),
		Example: `  sessionctl iam application --region eu-west-1 --account 123456789012 > policy.json
  sessionctl iam sweeper --table shop-sessions
  sessionctl iam application --backend redis`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("name a role: %s", strings.Join(names, ", "))
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, r := range roles() {
				if r.name == args[0] {
					return a.iam(r, account, partition)
				}
			}
			return usageError("there is no role %q; there is %s", args[0], strings.Join(names, ", "))
		},
	}
	c.Flags().StringVar(&account, "account", "*", "number of the AWS `account`; * for any")
	c.Flags().StringVar(&partition, "partition", "", "`partition` of AWS: aws, aws-cn, aws-us-gov (default: by the region)")
	return c
}

type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid      string
	Effect   string
	Action   []string
	Resource string
}

func (a *app) iam(r role, account, partition string) error {
	if a.backend == "redis" {
		return a.acl(r)
	}
	region := cmp.Or(a.region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "*")
	if partition == "" {
		partition = partitionOf(region)
	}
	if !regexp.MustCompile(`^(\*|[0-9]{12})$`).MatchString(account) {
		return usageError("--account %q is not a number of 12 digits, nor *", account)
	}
	if !regexp.MustCompile(`^(\*|[a-z0-9-]+)$`).MatchString(region) {
		return usageError("--region %q is not the name of a region", region)
	}
	if !regexp.MustCompile(`^aws[a-z0-9-]*$`).MatchString(partition) {
		return usageError("--partition %q is not the name of a partition", partition)
	}
	if _, err := dynamodb.NewFromClient(nowhere{}, dynamodb.Config{Table: a.table}); err != nil {
		return &exitError{code: codeUsage, err: err}
	}
	s := statement{
		Sid:      "Sessions" + strings.ReplaceAll(strings.ToUpper(r.name[:1])+r.name[1:], "-", ""),
		Effect:   "Allow",
		Resource: fmt.Sprintf("arn:%s:dynamodb:%s:%s:table/%s", partition, region, account, a.table),
	}
	for _, action := range r.actions {
		s.Action = append(s.Action, "dynamodb:"+action)
	}
	a.json = true // a policy is JSON, whoever reads it
	return a.print(policy{Version: "2012-10-17", Statement: []statement{s}}, nil)
}

// nowhere is a client for a backend that is made to check its Config only.
type nowhere struct{ dynamodb.Client }

func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// aclResult is the output of iam for Redis with --json.
type aclResult struct {
	Role string `json:"role"`
	Rule string `json:"rule"`
}

func (a *app) acl(r role) error {
	if r.commands == "" {
		return usageError("Redis has no role %q: it has no tables, and removes expired sessions by itself", r.name)
	}
	result := aclResult{Role: r.name, Rule: fmt.Sprintf("~%s* %s", a.prefix, r.commands)}
	return a.print(result, func(w *output) { w.printf("%s\n", result.Rule) })
}
