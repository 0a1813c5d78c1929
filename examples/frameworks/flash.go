package frameworks

import (
	"html/template"
	"net/http"

	"github.com/seed-a7bee19b/session"
)

var flash = session.Key[[]string]{Name: "flash"}

var page = template.Must(template.New("page").Parse(`{{range .}}<p class="flash">{{.}}</p>{{end}}<form method="post"><input name="item"></form>`))

// Flash shows a message once, on the page after the one that has made it. A message
// that another tab makes meanwhile is not lost.
func Flash(m *session.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /{$}", m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		_, err := flash.Update(s, func(all []string) []string { return append(all, "Added "+r.FormValue("item")) })
		if err == nil {
			http.Redirect(w, r, "/", http.StatusSeeOther)
		}
		return err
	}))
	mux.Handle("GET /{$}", m.HandlerFunc(func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		messages, _, err := flash.Take(s)
		if err != nil {
			return err
		}
		return page.Execute(w, messages)
	}))
	return mux
}
