package main

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/seed-a7bee19b/session"
)

// note is what the list of a member's sessions says about a login.
func note(r *http.Request) map[string]string {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	return map[string]string{"device": device(r.UserAgent()), "address": address}
}

// device names the browser and the system of a User-Agent, as far as a list for its
// user needs them.
func device(agent string) string {
	first := func(or string, names ...string) string {
		for _, name := range names {
			mark, name, _ := strings.Cut(name, "=")
			if strings.Contains(agent, mark) {
				return name
			}
		}
		return or
	}
	// Most browsers also call themselves by the names of others.
	browser := first("A browser", "Edg/=Edge", "OPR/=Opera", "Firefox/=Firefox", "Chrome/=Chrome", "Safari/=Safari", "curl/=curl")
	system := first("", "Android=Android", "iPhone=iPhone", "iPad=iPad", "Windows=Windows", "Mac OS X=macOS", "Linux=Linux")
	if system != "" {
		browser += " on " + system
	}
	return browser
}

// memberSessions returns the sessions of a member.
func (sh *shop) memberSessions(r *http.Request, user string) ([]session.Entry, error) {
	var all []session.Entry
	for e, err := range sh.sessions.Sessions(r.Context(), session.User(user)) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// endSession ends one session of the member.
func (sh *shop) endSession(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user, err := s.User()
	if err != nil {
		return err
	}
	handle, text := r.PostFormValue("session"), "That session has ended."
	switch {
	case handle == "":
		sh.errorPage(w, r, http.StatusBadRequest)
		return nil
	case handle == s.Handle():
		return sh.logout(w, r, s)
	default:
		err = sh.sessions.RevokeOne(r.Context(), handle, session.User(user))
		if errors.Is(err, session.ErrNotFound) {
			err, text = nil, "That session had ended already."
		}
	}
	if err == nil {
		err = message.Set(s, text)
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/account", http.StatusSeeOther)
	return nil
}

// endOthers ends all sessions of the member but this one.
func (sh *shop) endOthers(w http.ResponseWriter, r *http.Request, s *session.Session) error {
	user, err := s.User()
	if err == nil {
		err = sh.sessions.RevokeOthers(r.Context(), s.Handle(), session.User(user))
	}
	if err == nil {
		err = message.Set(s, "All your other sessions have ended.")
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, "/account", http.StatusSeeOther)
	return nil
}
