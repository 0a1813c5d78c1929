package behaviour

import (
	"context"
	"fmt"
)

var flush = Behaviour{
	Name:  "flush",
	Title: "Flush before Write",
	What: "A new visitor's handler sets a value, does what the library wants done at the end, flushes, and only then writes. " +
		"Does the visitor have the session?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		got, err := a.do(ctx, "", "set:a=1", "save", "flush", "write")
		if err != nil {
			return Result{}, err
		}
		v, err := a.get(ctx, got.cookie, "a")
		if err != nil {
			return Result{}, err
		}
		r := Result{Verdict: Kept, Short: "has it", Seen: fmt.Sprintf("answered %d, cookie set: %t; the next request read a=%s", got.status, got.set, v)}
		if v != "1" {
			r.Verdict, r.Short = Lost, "no cookie"
			if got.set {
				r.Short = "not saved"
			}
		}
		return r, nil
	},
}
