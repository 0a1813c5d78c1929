package session

import (
	"context"
	"errors"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/seed-a7bee19b/session/internal/printable"
)

// answer is Manager.Error without dropping anything.
func (m *core) answer(w http.ResponseWriter, r *http.Request, err error) {
	if m.cfg.ErrorHandler != nil {
		m.cfg.ErrorHandler(w, r, err)
		return
	}
	if isAny(err, ErrLockTimeout, ErrLockLost) {
		w.Header().Set("Retry-After", strconv.Itoa(int((m.cfg.Lock.TTL+time.Second-1)/time.Second)))
	}
	var stale *NotFreshError
	if m.cfg.Header == "Authorization" && errors.As(err, &stale) {
		w.Header().Set("WWW-Authenticate", stale.challenge())
	}
	w.Header().Set("Cache-Control", "no-store")
	status := Status(err)
	if status >= http.StatusInternalServerError && !clientLeft(r, err) {
		logError(r, err)
	}
	http.Error(w, http.StatusText(status), status)
}

// logError logs an error that no ErrorHandler and no Observer takes.
func logError(r *http.Request, err error) {
	logger := log.Default()
	if srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ErrorLog != nil {
		logger = srv.ErrorLog
	}
	logger.Printf("%s %s: %s", printable.Text(r.Method), r.URL.EscapedPath(), printable.Text(err.Error()))
}

// clientLeft reports whether err only says that the client of r, or the server, has
// gone away. A context that ended for another reason has another cause.
func clientLeft(r *http.Request, err error) bool {
	cause := context.Cause(r.Context())
	return errors.Is(err, context.Canceled) && errors.Is(cause, context.Canceled) && !errors.Is(cause, ErrLockLost)
}

// Status returns the HTTP status for an error: 409 for [ErrConflict] and
// [ErrNotFound], because the session changed or ended during the request, and for
// [ErrSessionLimit]; 503 for
// [ErrStore], [ErrLockTimeout], [ErrLockLost] and a context that has ended,
// because trying again may help; 401 for [ErrNotFresh], because the user has to
// authenticate; and 500 for every other error, including those of other packages.
// If the client has gone away, the status is 503 too, which only the log of a
// proxy shows.
func Status(err error) int {
	switch {
	case isAny(err, ErrLockLost, ErrLockTimeout): // whatever else the error says
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrNotFresh):
		return http.StatusUnauthorized
	case isAny(err, ErrConflict, ErrNotFound, ErrSessionLimit):
		return http.StatusConflict
	case isAny(err, ErrTooLarge, ErrEncode, ErrDecode, ErrReadOnly, ErrClosed, ErrTooLate):
		return http.StatusInternalServerError
	case isAny(err, ErrStore, ErrLocked, context.Canceled, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
