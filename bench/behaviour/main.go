// Command behaviour runs the behaviours against every library and prints the
// results.
//
//	go run ./behaviour -only parallel-writes -peer scs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/seed-a7bee19b/session/bench/internal/behaviour"
	"github.com/seed-a7bee19b/session/integration/engine"
)

func main() {
	only := flag.String("only", "", "the name of one behaviour")
	peer := flag.String("peer", "", "only peers whose name contains this")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *peer); err != nil {
		fmt.Fprintln(os.Stderr, "behaviour:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, peer string) (err error) {
	behaviour.Quiet()
	var env behaviour.Env
	needs := map[string]bool{}
	var peers []behaviour.Peer
	for _, p := range behaviour.Peers() {
		if strings.Contains(p.Name, peer) {
			peers = append(peers, p)
			needs[p.Needs] = true
		}
	}
	if needs["redis"] {
		e, startErr := engine.StartRedis(ctx, os.Stderr)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		env.Redis = e.Endpoint
	}
	if needs["dynamodb"] {
		e, startErr := engine.Start(ctx, os.Stderr)
		if startErr != nil {
			return startErr
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		env.DynamoDB = e.Endpoint
	}
	ran := false
	for _, b := range behaviour.All() {
		if only != "" && b.Name != only {
			continue
		}
		ran = true
		fmt.Printf("%s (%s)\n%s\n", b.Title, b.Name, b.What)
		for _, p := range peers {
			r, err := b.Against(ctx, p, env)
			if err != nil {
				return err
			}
			fmt.Printf("  %-20s %-6v %-32s %s\n", r.Peer, r.Verdict, r.Short, r.Seen)
		}
		fmt.Println()
	}
	if !ran {
		return fmt.Errorf("no behaviour is called %q", only)
	}
	return nil
}
