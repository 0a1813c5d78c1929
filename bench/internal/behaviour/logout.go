package behaviour

import (
	"context"
	"fmt"
)

var logout = Behaviour{
	Name:  "logout",
	Title: "Logout during a slow request",
	What: "A slow request has the session. Another one logs out. Then the slow one changes the session and ends. " +
		"Does the ID that was logged out open the session again?",
	Run: func(ctx context.Context, a *App) (Result, error) {
		cookie, out, slow, err := a.during(ctx, "destroy")
		if err != nil {
			return Result{}, err
		}
		// The browser has the cookie of the slow response, which came last.
		now := cookie
		if slow.set {
			now = slow.cookie
		}
		values := map[string]string{}
		for who, c := range map[string]string{"old": cookie, "now": now} {
			if values[who], err = a.get(ctx, c, "a"); err != nil {
				return Result{}, err
			}
		}
		r := Result{Verdict: Kept, Short: "stays out", Seen: fmt.Sprintf(
			"logout answered %d, the slow request %d; the old ID then read a=%s, the browser a=%s", out.status, slow.status, values["old"], values["now"])}
		if values["old"] == "1" || values["now"] == "1" {
			r.Verdict, r.Short = Lost, "is back"
		}
		return r, nil
	},
}
