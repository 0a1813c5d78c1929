package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/seed-a7bee19b/session"
)

// eventsPath is the one route whose answers take longer than storeTimeout.
const eventsPath = "/events"

// beat is how often a stream shows a sign of life. Otherwise proxies would close it,
// and nobody would notice that the browser has gone without a word.
const beat = 15 * time.Second

// events tells a page of a member when the member's session ends: in another tab, on
// another device, or because nobody used it. The route is read-only, as an open page
// is no use of the session.
func (sh *shop) events(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user, err := s.User()
	if err != nil {
		return err
	}
	send := func(text string) error { // within a time of its own, not that of the whole answer
		rc := http.NewResponseController(w)
		if err := rc.SetWriteDeadline(time.Now().Add(beat)); err != nil {
			return err
		}
		if _, err := fmt.Fprint(w, text); err != nil {
			return err
		}
		return rc.Flush()
	}
	const alive, ended = ": still here\n\n", "event: ended\ndata:\n\n"
	w.Header().Set("Content-Type", "text/event-stream")
	if user == "" || user != r.FormValue("user") { // it has ended while the page did not listen
		return send(ended)
	}
	ctx, stop, err := s.Watch(r.Context(), session.Watch{})
	if err != nil {
		return err
	}
	defer stop()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for send(alive) == nil {
		select {
		case <-ticker.C:
		case <-sh.closing:
			return nil
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), session.ErrNotFound) {
				_ = send(ended) // the page is told, or has gone
			}
			return nil // otherwise the browser comes again
		}
	}
	return nil
}
