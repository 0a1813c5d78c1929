package behaviour

import (
	"context"
	"fmt"
	"time"
)

var clientGone = Behaviour{
	Name:  "client-gone",
	Title: "Client gone before the end",
	What: "The client closes the connection while the handler works, and a moment later the handler sets b=2 and ends. " +
		"Does the client's next request find b?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		cookie, err := a.begin(ctx)
		if err != nil {
			return Result{}, err
		}
		short, hangUp := context.WithCancel(ctx)
		defer hangUp()
		release, err := a.slow(short, cookie, []string{"read:a"}, []string{"set:b=2", "save", "write", "say:done"})
		if err != nil {
			return Result{}, err
		}
		hangUp()
		time.Sleep(200 * time.Millisecond) // the server has to notice
		_, gone := release()
		if gone == nil {
			return Result{}, fmt.Errorf("the client got an answer, though it had hung up")
		}
		// A save after the handler has returned may take a moment.
		v := ""
		for deadline := time.Now().Add(time.Second); v != "2" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			if v, err = a.get(ctx, cookie, "b"); err != nil {
				return Result{}, err
			}
		}
		r := Result{Verdict: Kept, Short: "saved", Seen: "a later request read b=" + v}
		if v != "2" {
			r.Verdict, r.Short = Lost, "lost"
			if a.fail == nil {
				r.Verdict, r.Short = NotApplicable, "nobody there to keep it"
				r.Seen += ": the session is in the cookie, and the response with it had no client"
			}
		}
		return r, nil
	},
}

var planted = Behaviour{
	Name:  "planted",
	Title: "Planted ID",
	What: "A browser comes with an ID that somebody else has chosen, of the right form. The handler logs its user in by setting a value. " +
		"Does the chosen ID open that session?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		got, err := a.do(ctx, a.planted, "set:a=1", "save", "write")
		if err != nil {
			return Result{}, err
		}
		v, err := a.get(ctx, a.planted, "a")
		if err != nil {
			return Result{}, err
		}
		r := Result{Verdict: Kept, Short: "refused", Seen: fmt.Sprintf(
			"answered %d, a new ID was set: %t; the planted ID then read a=%s", got.status, got.set && got.cookie != a.planted, v)}
		if v == "1" {
			r.Verdict, r.Short = Lost, "accepted"
		}
		return r, nil
	},
}
