package backchannel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/seed-a7bee19b/session"
)

// maxBody bounds a request's body, in bytes. A logout token has about one thousand.
const maxBody = 16 << 10

// New returns a handler for the back-channel logout URI of a client. It is for one
// provider and one client ID; an application that has several gives each of them a
// URI and a handler.
//
// The handler answers with
//
//	200  if the sessions are gone, also if there was none, or if the token came again
//	400  if the token is refused; the body is the same for all reasons
//	405  if the method is not POST
//	413  if the body has more than 16 KiB
//	415  if the body is not a form
//	500  if Owner or the revocation failed, and trying again does not mend it
//	503  if the keys could not be obtained, or the store failed, or time ran out:
//	     some sessions may still be there, and the provider may send the token again
//
// An error in the Config is returned here; it names all settings that are wrong.
func New(cfg Config) (http.Handler, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &handler{cfg: cfg}
	for _, alg := range cfg.Algorithms {
		h.algorithms = append(h.algorithms, jose.SignatureAlgorithm(alg))
	}
	return h, nil
}

type handler struct {
	cfg        Config
	algorithms []jose.SignatureAlgorithm
	done       done
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := h.logout(w, r); err != nil {
		h.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (h *handler) logout(w http.ResponseWriter, r *http.Request) error {
	compact, err := logoutToken(w, r)
	if err != nil {
		return err
	}
	t, err := h.verify(r.Context(), compact)
	if err != nil {
		return err
	}
	if h.done.has(t.digest) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.cfg.Timeout)
	defer cancel()
	owner, err := h.cfg.Owner(ctx, t.Token)
	if err == nil && (owner.Kind == "" || owner.ID == "") {
		err = errors.New("it has no Kind or no ID")
	}
	if err != nil {
		return &failure{status: failed(err), err: fmt.Errorf("determine the owner: %w", err)}
	}
	if err := h.cfg.Sessions.Revoke(ctx, owner); err != nil {
		return &failure{status: failed(err), err: fmt.Errorf("revoke: %w", err)}
	}
	// Only now: a token that failed must work when it comes again.
	h.done.add(t.digest, t.until, time.Now())
	return nil
}

// logoutToken returns the logout_token of a request.
func logoutToken(w http.ResponseWriter, r *http.Request) (string, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return "", &refusal{status: http.StatusMethodNotAllowed, reason: "the method is not POST"}
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return "", &refusal{status: http.StatusUnsupportedMediaType, reason: "the body is not a form"}
	}
	form := r.PostForm // if middleware has parsed it
	if form == nil {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return "", &refusal{status: http.StatusRequestEntityTooLarge, reason: "the body is too large"}
		}
		if err != nil {
			return "", refuse("the body could not be read")
		}
		if form, err = url.ParseQuery(string(body)); err != nil {
			return "", refuse("the body is not a valid form")
		}
	}
	tokens := form["logout_token"]
	if len(tokens) != 1 {
		return "", refuse("there is not one logout_token")
	}
	if len(tokens[0]) > maxBody {
		return "", &refusal{status: http.StatusRequestEntityTooLarge, reason: "logout_token is too large"}
	}
	return tokens[0], nil
}

// A refusal is an answer to a request that is wrong. Its reason has no text from
// the request.
type refusal struct {
	status int
	signed bool // the provider has signed the token, so it is no attack
	reason string
}

func (r *refusal) Error() string { return "backchannel: " + r.reason }

func refuse(reason string) error { return &refusal{status: http.StatusBadRequest, reason: reason} }

// A failure says that a valid request was not carried out, or could not be judged.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return "backchannel: " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failed returns the status for an error of the revocation. None of them is the
// provider's fault.
func failed(err error) int {
	if status := session.Status(err); status >= http.StatusInternalServerError {
		return status
	}
	return http.StatusServiceUnavailable
}

func (h *handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, code, quiet := http.StatusInternalServerError, "server_error", false
	var f *failure
	var no *refusal
	if errors.As(err, &f) {
		status = f.status
		quiet = r.Context().Err() != nil && errors.Is(err, context.Canceled)
	} else if errors.As(err, &no) {
		status, code, quiet = no.status, "invalid_request", !no.signed
	}
	if status == http.StatusServiceUnavailable {
		code = "temporarily_unavailable"
		w.Header().Set("Retry-After", "5")
	}
	if h.cfg.OnError != nil {
		h.cfg.OnError(r, status, err)
	} else if !quiet {
		logError(r, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": code}) // the client may have gone
}

// logError logs where net/http does.
func logError(r *http.Request, err error) {
	logger := log.Default()
	if srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ErrorLog != nil {
		logger = srv.ErrorLog
	}
	text := err.Error()
	if !strconv.CanBackquote(text) {
		text = strconv.Quote(text) // the text of a failure can come from anywhere
	}
	logger.Printf("POST %s: %s", r.URL.EscapedPath(), text)
}
