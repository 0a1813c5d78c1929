package behaviour

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

var failingLoad = Behaviour{
	Name:  "failing-load",
	Title: "The store fails while reading, then recovers",
	What: "The session has a=1. The store fails when the next request reads it, and works again when the handler goes on, " +
		"sets b=2 and ends. Is a still there? Was the client told?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		if a.fail == nil {
			return Result{Verdict: NotApplicable, Short: "no store", Seen: "the session is in the cookie: there is no store that could fail"}, nil
		}
		cookie, err := a.begin(ctx)
		if err != nil {
			return Result{}, err
		}
		if err := a.fail(true); err != nil {
			return Result{}, err
		}
		got, err := a.do(ctx, cookie, "read:a", "heal", "set:b=2", "save", "write")
		if err != nil {
			return Result{}, err
		}
		if err := a.fail(false); err != nil {
			return Result{}, err
		}
		now := cookie
		if got.set {
			now = got.cookie
		}
		v, err := a.get(ctx, now, "a")
		if err != nil {
			return Result{}, err
		}
		r := Result{Verdict: Kept, Short: fmt.Sprintf("kept, client told (%d)", got.status),
			Seen: fmt.Sprintf("answered %d, cookie set: %t; a later request read a=%s", got.status, got.set, v)}
		switch {
		case v != "1":
			r.Verdict, r.Short = Lost, fmt.Sprintf("overwritten, client told %d", got.status)
		case got.status == http.StatusOK:
			r.Verdict, r.Short = Lost, "kept, client told 200"
		}
		if a.peer.ignoresOpened {
			if r, err = a.checked(ctx, r, true); err != nil {
				return Result{}, err
			}
		}
		return r, nil
	},
}

// checked adds the result of a handler that checks the error returned with the
// session, which the library's own example does not.
func (a *App) checked(ctx context.Context, r Result, breaks bool) (Result, error) {
	cookie, err := a.begin(ctx)
	if err != nil {
		return r, err
	}
	if breaks {
		err = a.fail(true)
	} else {
		err = a.garble()
	}
	if err != nil {
		return r, err
	}
	got, err := a.do(ctx, cookie, "check", "read:a", "set:b=2", "save", "write")
	if err != nil {
		return r, err
	}
	if breaks {
		if err := a.fail(false); err != nil {
			return r, err
		}
	}
	r.Seen += fmt.Sprintf(". With a handler that looks at the error of Get and stops, unlike that of the library's example: %d", got.status)
	return r, nil
}

var failingSave = Behaviour{
	Name:  "failing-save",
	Title: "The store fails while saving",
	What:  "The handler sets b=2, the store then fails, and the handler ends as usual. What is the client told?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		if a.fail == nil {
			return Result{Verdict: NotApplicable, Short: "no store", Seen: "the session is in the cookie: there is no store that could fail"}, nil
		}
		cookie, err := a.begin(ctx)
		if err != nil {
			return Result{}, err
		}
		got, err := a.do(ctx, cookie, "read:a", "set:b=2", "break", "save", "write")
		if err != nil {
			return Result{}, err
		}
		if err := a.fail(false); err != nil {
			return Result{}, err
		}
		v, err := a.get(ctx, cookie, "b")
		if err != nil {
			return Result{}, err
		}
		r := Result{Verdict: Kept, Short: fmt.Sprintf("client told (%d)", got.status),
			Seen: fmt.Sprintf("answered %d; a later request read b=%s", got.status, v)}
		if got.status != http.StatusOK && strings.HasSuffix(got.body, "ok") {
			r.Seen += "; the page that says that all went well follows the error in the body"
		}
		if got.status == http.StatusOK && v != "2" {
			r.Verdict, r.Short = Lost, "lost, client told 200"
		}
		return r, nil
	},
}

var undecodable = Behaviour{
	Name:  "undecodable",
	Title: "Undecodable data",
	What: "What is stored does not decode, as after a change of codec, key or type. A request reads a, sets b=2 and ends. " +
		"Are the stored bytes still there, so that an operator can mend them?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		if a.garble == nil {
			return Result{Verdict: NotApplicable, Short: "no store", Seen: "the session is in the cookie: nothing is stored that could be kept"}, nil
		}
		cookie, err := a.begin(ctx)
		if err != nil {
			return Result{}, err
		}
		if err := a.garble(); err != nil {
			return Result{}, err
		}
		got, err := a.do(ctx, cookie, "read:a", "set:b=2", "save", "write")
		if err != nil {
			return Result{}, err
		}
		kept, err := a.garbled()
		if err != nil {
			return Result{}, err
		}
		r := Result{Verdict: Kept, Short: fmt.Sprintf("kept (%d)", got.status),
			Seen: fmt.Sprintf("answered %d; the bytes are as they were: %t", got.status, kept)}
		if !kept {
			r.Verdict, r.Short = Lost, fmt.Sprintf("overwritten (%d)", got.status)
		}
		if a.peer.ignoresOpened {
			if r, err = a.checked(ctx, r, false); err != nil {
				return Result{}, err
			}
		}
		return r, nil
	},
}
