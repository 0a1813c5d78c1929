package behaviour

import (
	"context"
	"fmt"
	"net/http"
)

var rotation = Behaviour{
	Name:  "rotation",
	Title: "New ID during a slow request",
	What: "A slow request has the session and changes it. Another one gives the session a new ID, as at a login. " +
		"Then the slow one ends. Is the old ID dead? If the slow request was answered with 200, is what it wrote there?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		cookie, rotated, slow, err := a.during(ctx, "rotate")
		if err != nil {
			return Result{}, err
		}
		if rotated.status != http.StatusOK {
			return Result{Verdict: NotApplicable, Short: "no call", Seen: fmt.Sprintf("rotation answered %d: %s", rotated.status, rotated.body)}, nil
		}
		old, err := a.get(ctx, cookie, "a")
		if err != nil {
			return Result{}, err
		}
		kept, err := a.get(ctx, rotated.cookie, "a")
		if err != nil {
			return Result{}, err
		}
		wrote, err := a.get(ctx, rotated.cookie, "slow")
		if err != nil {
			return Result{}, err
		}
		displaced := slow.set && slow.cookie != rotated.cookie
		r := Result{Verdict: Kept, Short: "old ID dead, nothing lost", Seen: fmt.Sprintf(
			"the slow request answered %d, and set a cookie with another ID: %t; the old ID then read a=%s; the new one a=%s, slow=%s",
			slow.status, displaced, old, kept, wrote)}
		switch {
		case old == "1" && wrote != "1":
			r.Verdict, r.Short = Lost, "old ID lives, write lost"
		case old == "1":
			r.Verdict, r.Short = Lost, "old ID lives"
		case slow.status == http.StatusOK && wrote != "1", kept != "1":
			r.Verdict, r.Short = Lost, "write lost"
		case displaced:
			r.Verdict, r.Short = Lost, "new cookie displaced"
		case wrote != "1":
			r.Short = fmt.Sprintf("old ID dead, slow one told (%d)", slow.status)
		}
		return r, nil
	},
}
