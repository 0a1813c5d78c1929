package behaviour

import (
	"context"
	"fmt"
	"net/http"
	"sync"
)

const writers = 20

var parallelKeys = Behaviour{
	Name:  "parallel-writes",
	Title: "20 parallel writes, a key each",
	What: "20 requests of one client have read the session before the first of them saves; " +
		"each sets a key of its own. How many of the 20 keys does a later request find?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		cookie, refused, err := a.together(ctx, func(i int) string { return fmt.Sprintf("set:k%d=1", i) })
		if err != nil {
			return Result{}, err
		}
		found := 0
		for i := range writers {
			v, err := a.get(ctx, cookie, fmt.Sprint("k", i))
			if err != nil {
				return Result{}, err
			}
			if v == "1" {
				found++
			}
		}
		return survivors(found, refused, "keys"), nil
	},
}

var parallelCounter = Behaviour{
	Name:  "parallel-counter",
	Title: "20 parallel writes, one counter",
	What:  "As above, but each request adds 1 to the same counter, with the library's own means. What does it say in the end?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		cookie, refused, err := a.together(ctx, func(int) string { return "inc:n" })
		if err != nil {
			return Result{}, err
		}
		v, err := a.get(ctx, cookie, "n")
		if err != nil {
			return Result{}, err
		}
		found := 0
		_, _ = fmt.Sscan(v, &found) // "-" means none
		return survivors(found, refused, "increments"), nil
	},
}

// together makes all writers change the session before any of them saves. It
// returns the cookie that a browser would have in the end: that of the last
// response that set one.
func (a *App) together(ctx context.Context, change func(i int) string) (cookie string, refused int, err error) {
	began, err := a.begin(ctx)
	if err != nil {
		return "", 0, err
	}
	cookie = began
	var mu sync.Mutex
	var ready, wg sync.WaitGroup
	ready.Add(writers)
	for i := range writers {
		wg.Go(func() {
			gate := fmt.Sprint("in", i)
			go func() { <-a.gate(gate); ready.Done() }()
			got, doErr := a.do(ctx, began, "read:a", "say:"+gate, "wait:go", change(i), "save", "write")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case doErr != nil:
				err = doErr
			case got.status != http.StatusOK:
				refused++
			case got.set && got.cookie != "":
				cookie = got.cookie
			}
		})
	}
	ready.Wait()
	close(a.gate("go"))
	wg.Wait()
	return cookie, refused, err
}

func survivors(found, refused int, what string) Result {
	r := Result{
		Verdict: Lost,
		Short:   fmt.Sprintf("%d of %d", found, writers),
		Seen:    fmt.Sprintf("%d of %d %s were there afterwards; %d requests were answered with an error", found, writers, what, refused),
	}
	switch {
	case found == writers:
		r.Verdict = Kept
	case found+refused == writers:
		r.Verdict, r.Short = Kept, fmt.Sprintf("%s, %d told", r.Short, refused)
	}
	return r
}
