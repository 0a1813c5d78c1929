package main

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/template"

	"github.com/seed-a7bee19b/session/bench/internal/behaviour"
)

// Report has the results of a run.
type Report struct {
	Command string
	Date    string
	Quick   bool
	Machine []Fact
	Modules []Fact
	Took    string

	Subjects   []subject
	Redis      []subject
	Speeds     []Speed
	Parallel   []Speed // lean
	RedisSpeed []Speed
	Commands   map[string]map[work]float64 // to Redis, per request
	Footprints []Footprint
	Ratios     []Ratio
	Prices     []Price
	Handoffs   []Handoff
	Behaviours []Seen
	Peers      []behaviour.Peer
}

// Fact is a name and a value.
type Fact struct{ Name, Value string }

// Seen is a behaviour and the result of each library.
type Seen struct {
	behaviour.Behaviour
	Results []behaviour.Result
}

//go:embed comparison.md.tmpl
var pageText string

// write writes the page.
func (r *Report) write(w io.Writer) error {
	t, err := template.New("comparison").Funcs(template.FuncMap{
		"us":    func(ns float64) string { return figure(ns / 1e3) },
		"fig":   figure,
		"ratio": func(f float64) string { return fmt.Sprintf("%.2f", f) },
		"whole": func(f float64) string { return fmt.Sprintf("%.0f", f) },
		"units": func(f float64) string { return fmt.Sprintf("%g", math.Round(f*10)/10) },
		"code":  func(s string) string { return "`" + s + "`" },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}

// figure prints a number with about three digits.
func figure(f float64) string {
	switch {
	case f >= 99.5:
		return fmt.Sprintf("%.0f", f)
	case f >= 9.95:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// Row is a subject with its numbers for each work.
type Row struct {
	subject
	Cells []Speed
}

// Name is for the template.
func (r Row) Name() string { return strong(r.subject) }

// Notes is for the template.
func (r Row) Notes() string { return r.notes }

func strong(s subject) string {
	switch {
	case s.ours:
		return "**" + s.name + "**"
	case s.bare:
		return "_" + s.name + "_"
	}
	return s.name
}

func rows(subjects []subject, speeds []Speed, size string, ws []work) []Row {
	var out []Row
	for _, s := range subjects {
		row := Row{subject: s}
		for _, w := range ws {
			for _, sp := range speeds {
				if sp.Subject == s.name && sp.Size == size && sp.Work == w {
					row.Cells = append(row.Cells, sp)
				}
			}
		}
		out = append(out, row)
	}
	return out
}

// Sizes is for the template.
func (r *Report) Sizes() []string { return sizes }

// Rows is for the template.
func (r *Report) Rows(size string) []Row { return rows(r.Subjects, r.Speeds, size, works) }

// Reads is for the template: reading a typical session.
func (r *Report) Reads() []Row {
	return rows(append([]subject{arithmetic}, r.Subjects...), r.Parallel, typical, []work{read})
}

// RedisRow is a subject on Redis with the commands that it sends.
type RedisRow struct {
	Row
	Commands []float64
}

// RedisRows is for the template.
func (r *Report) RedisRows() []RedisRow {
	var out []RedisRow
	for _, row := range rows(r.Redis, r.RedisSpeed, typical, works) {
		rr := RedisRow{Row: row}
		for _, w := range works {
			rr.Commands = append(rr.Commands, r.Commands[row.name][w])
		}
		out = append(out, rr)
	}
	return out
}

// Columns is for the template: the peers, with ours on all its stores as one.
func (r *Report) Columns() []string {
	out := []string{"**session**"}
	for _, p := range r.Peers {
		if !isOurs(p.Name) {
			out = append(out, p.Name)
		}
	}
	return out
}

func isOurs(name string) bool { return strings.HasPrefix(name, "session, ") }

// Cells is for the template: one for each of Columns.
func (s Seen) Cells() []string {
	var ours, others []string
	same := true
	for _, r := range s.Results {
		c := r.Short
		switch r.Verdict {
		case behaviour.Lost:
			c = "**loses**: " + c
		case behaviour.NotApplicable:
			c = "n/a: " + c
		case behaviour.Kept:
			c = "keeps: " + c
		}
		if isOurs(r.Peer) {
			same = same && (len(ours) == 0 || ours[0] == c)
			ours = append(ours, c)
		} else {
			others = append(others, c)
		}
	}
	if same {
		ours = ours[:min(1, len(ours))]
	}
	return append([]string{strings.Join(ours, "; ")}, others...)
}

// Notes is for the template: the results, with equal ones listed once.
func (s Seen) Notes() []Fact {
	var out []Fact
	for _, r := range s.Results {
		known := false
		for i := range out {
			if out[i].Value == r.Seen {
				out[i].Name += "; " + r.Peer
				known = true
			}
		}
		if !known {
			out = append(out, Fact{r.Peer, r.Seen})
		}
	}
	return out
}

// Summary is for the template: the page in a few lines.
func (r *Report) Summary() []string {
	var out []string
	var tally []string
	for i, name := range r.Columns() {
		keeps, asked := 0, 0
		for _, s := range r.Behaviours {
			cells := s.Cells()
			if i >= len(cells) || strings.HasPrefix(cells[i], "n/a") {
				continue
			}
			asked++
			if !strings.Contains(cells[i], "loses") {
				keeps++
			}
		}
		tally = append(tally, fmt.Sprintf("%s %d of %d", name, keeps, asked))
	}
	out = append(out, "Keeps what it was given, where that can be asked: "+strings.Join(tally, "; ")+".")
	for _, w := range works {
		if line := span(r.Subjects, r.Speeds, w); line != "" {
			out = append(out, line+", stores in this process.")
		}
	}
	for _, w := range works {
		if line := span(r.Redis, r.RedisSpeed, w); line != "" {
			out = append(out, line+", stores in Redis.")
		}
	}
	var parts []string
	for _, x := range r.Ratios {
		if x.Level == levelManager && x.Size == typical {
			parts = append(parts, fmt.Sprintf("%s, %s: %.2f", x.Store, x.Work, x.Ratio))
		}
	}
	if len(parts) > 0 {
		out = append(out, "Time beside raw calls of the client, typical session: "+strings.Join(parts, "; ")+".")
	}
	return out
}

// span compares ours with the fastest and the slowest of the others.
func span(subjects []subject, speeds []Speed, w work) string {
	var ours, others []float64
	for _, row := range rows(subjects, speeds, typical, []work{w}) {
		switch {
		case row.bare || len(row.Cells) == 0:
		case row.ours:
			ours = append(ours, row.Cells[0].One.NS)
		default:
			others = append(others, row.Cells[0].One.NS)
		}
	}
	if len(ours) == 0 || len(others) == 0 {
		return ""
	}
	line := fmt.Sprintf("%s%s, typical session: %s µs; the others %s", strings.ToUpper(string(w[:1])), w[1:],
		figure(ours[0]/1e3), figure(slices.Min(others)/1e3))
	if len(others) > 1 {
		line += " to " + figure(slices.Max(others)/1e3)
	}
	return line + " µs"
}
