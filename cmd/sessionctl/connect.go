package main

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/observe"
)

// globals are the flags of all commands.
type globals struct {
	backend string

	// DynamoDB
	table      string
	endpoint   string
	region     string
	profile    string
	attributes dynamodb.Config // only the names

	// Redis
	redisURL     string
	redisCluster bool
	prefix       string

	codec   string
	php     phpFlags
	timeout time.Duration
	json    bool
	verbose bool

	// observe, if a command sets it before open, is told of every request to
	// DynamoDB.
	observe func(context.Context, observe.Request)

	groups []flagGroup
}

// flagGroup is a group of flags in the help.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
	brief bool // shown with every command, and not only with the program
}

func (g *globals) add(root *cobra.Command) {
	group := func(title string, brief bool) *pflag.FlagSet {
		f := pflag.NewFlagSet(title, pflag.ContinueOnError)
		f.SortFlags = false
		g.groups = append(g.groups, flagGroup{title, f, brief})
		return f
	}
	f := group("Store", true)
	f.StringVar(&g.backend, "backend", "dynamodb", "store of the sessions: dynamodb or redis")
	f.StringVar(&g.table, "table", dynamodb.DefaultTable, "`name` of the DynamoDB table")
	f.StringVar(&g.region, "region", "", "AWS `region` (default: that of the AWS command line)")
	f.StringVar(&g.profile, "profile", "", "AWS `profile` (default: that of the AWS command line)")
	f.StringVar(&g.endpoint, "endpoint", "", "`URL` of DynamoDB Local, or of another endpoint")
	f.StringVar(&g.redisURL, "redis", "", "`URL` of Redis, redis:// or rediss://; implies --backend redis\n"+
		"(default $REDIS_URL, which keeps a password out of the process\nlist, or redis://127.0.0.1:6379)")
	f.BoolVar(&g.redisCluster, "redis-cluster", false, "the URL is of a node of a Redis cluster")
	f.StringVar(&g.prefix, "prefix", redisstore.DefaultPrefix, "`prefix` of all keys in Redis")

	f = group("Output and time", true)
	f.BoolVar(&g.json, "json", false, "print JSON")
	f.BoolVarP(&g.verbose, "verbose", "v", false, "also print the cause of an error")
	f.DurationVar(&g.timeout, "timeout", 0, "stop after this `time`, such as 30s or 10m (default: no limit)")

	f = group("How the application stores its sessions", false)
	f.StringVar(&g.codec, "codec", "msgpack", "codec of the sessions: msgpack or json")
	g.php.add(f)
	for _, n := range []struct {
		flag, def, what string
		value           *string
	}{
		{"key-attribute", dynamodb.DefaultKeyAttribute, "the key", &g.attributes.KeyAttribute},
		{"data-attribute", dynamodb.DefaultDataAttribute, "the session", &g.attributes.DataAttribute},
		{"expires-attribute", dynamodb.DefaultExpiresAttribute, "the deadline, for TTL", &g.attributes.ExpiresAttribute},
		{"created-attribute", dynamodb.DefaultCreatedAttribute, "the start", &g.attributes.CreatedAttribute},
		{"version-attribute", dynamodb.DefaultVersionAttribute, "the version", &g.attributes.VersionAttribute},
		{"lock-attribute", dynamodb.DefaultLockAttribute, "the lock", &g.attributes.LockAttribute},
		{"lock-until-attribute", dynamodb.DefaultLockUntilAttribute, "the end of the lock", &g.attributes.LockUntilAttribute},
		{"private-attribute", dynamodb.DefaultPrivateAttribute, "what PHP is not to see", &g.attributes.PrivateAttribute},
	} {
		f.StringVar(n.value, n.flag, n.def, "`name` of the DynamoDB attribute with "+n.what)
	}
	for _, gr := range g.groups {
		root.PersistentFlags().AddFlagSet(gr.flags)
	}
	for name, values := range map[string][]string{
		"backend": {"dynamodb", "redis"}, "codec": {"msgpack", "json"}, "php": phpConnections, "serialize-handler": phpHandlers,
	} {
		_ = root.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
}

// check refuses flags that contradict each other.
func (g *globals) check(cmd *cobra.Command) error {
	changed := func(names ...string) string {
		if i := slices.IndexFunc(names, cmd.Flags().Changed); i >= 0 {
			return names[i]
		}
		return ""
	}
	if changed("backend") == "" && changed("redis", "redis-cluster") != "" {
		g.backend = "redis"
	}
	switch g.backend {
	case "dynamodb":
		if f := changed("redis", "redis-cluster", "prefix"); f != "" {
			return usageError("--%s is for Redis, but the backend is DynamoDB: leave it out, or add --backend redis", f)
		}
	case "redis":
		f := changed("table", "endpoint", "region", "profile", "key-attribute", "data-attribute", "expires-attribute",
			"created-attribute", "version-attribute", "lock-attribute", "lock-until-attribute",
			"private-attribute", "php")
		if f != "" {
			return usageError("--%s is for DynamoDB, but the backend is Redis: leave it out, or leave out --redis and --backend", f)
		}
	default:
		return usageError("--backend is %q; it can be dynamodb or redis", g.backend)
	}
	if err := g.php.check(changed); err != nil {
		return err
	}
	if g.timeout < 0 {
		return usageError("--timeout %v is negative", g.timeout)
	}
	if g.endpoint != "" {
		u, err := url.Parse(g.endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return usageError("--endpoint %q is not a URL like http://localhost:8000", g.endpoint)
		}
	}
	_, err := (&app{globals: *g}).sessionCodec()
	return err
}

// onLoopback reports whether endpoint is on this machine.
func onLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
