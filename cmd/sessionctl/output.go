package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// output is the only way to standard output and to standard error. What comes
// from a store, a file, a server or the environment cannot do anything to the
// terminal through it: printf escapes its arguments, and Write everything but
// line ends and tabs, so JSON does not change.
//
// It remembers that it could not be written, so that no command has to look,
// and a full disk is no success.
type output struct {
	w   io.Writer
	ctx context.Context // nil for none

	mu  sync.Mutex
	err error
}

// stuckFor is the time that a pipe without a reader may delay the end of a
// command.
const stuckFor = 2 * time.Second

// Write takes whole characters. If it does not return in time, it leaves a
// goroutine behind, which ends with the program.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	text := escapeBut(string(p), "\n\t")
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(o.w, text)
		written <- err
	}()
	if o.err = o.await(written); o.err != nil {
		return 0, o.err
	}
	return len(p), nil
}

func (o *output) await(written <-chan error) error {
	if o.ctx == nil {
		return <-written
	}
	select {
	case err := <-written:
		return err
	case <-o.ctx.Done():
	}
	t := time.NewTimer(stuckFor)
	defer t.Stop()
	select {
	case err := <-written:
		return err
	case <-t.C:
		return errors.New("nobody reads it")
	}
}

// until has writes end soon after ctx has.
func (o *output) until(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ctx = ctx
}

// printf is fmt.Fprintf. Of its arguments only what a table renders has line
// ends.
func (o *output) printf(format string, args ...any) {
	safe := make([]any, len(args))
	for i, arg := range args {
		safe[i] = arg
		if _, ok := arg.(rendered); !ok {
			safe[i] = harmless{arg}
		}
	}
	fmt.Fprintf(o, format, safe...)
}

// print prints the result of a command: v with --json, else what human
// writes. The fields of v have names in snake_case, which stay as they are.
func (a *app) print(v any, human func(w *output)) error {
	if !a.json {
		human(a.stdout)
		return nil
	}
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// line prints v as one line of JSON, for commands whose output has no end in
// sight.
func (a *app) line(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// note writes a line to standard error.
func (a *app) note(format string, args ...any) { a.stderr.printf(format+"\n", args...) }

// grid is a table whose cells are escaped.
type grid struct{ table.Writer }

// rendered is a table as text.
type rendered string

func (g grid) AppendRow(row table.Row, config ...table.RowConfig) {
	g.Writer.AppendRow(cells(row), config...)
}

func (g grid) AppendFooter(row table.Row, config ...table.RowConfig) {
	g.Writer.AppendFooter(cells(row), config...)
}

func (g grid) AppendHeader(row table.Row, config ...table.RowConfig) {
	g.Writer.AppendHeader(cells(row), config...)
}

func (g grid) Render() rendered { return rendered(g.Writer.Render()) }

func cells(row table.Row) table.Row {
	safe := make(table.Row, len(row))
	for i, cell := range row {
		safe[i] = escape(fmt.Sprint(cell))
	}
	return safe
}

// newTable is a table in the style of the program: columns and nothing else,
// so that other programs can have it too. Numbers are columns aligned to the
// right, counted from 1.
func newTable(header table.Row, numbers ...int) grid {
	t := grid{table.NewWriter()}
	style := table.StyleLight
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Format.Footer = text.FormatDefault
	style.Box.PaddingLeft = ""
	style.Box.PaddingRight = "  "
	t.SetStyle(style)
	if header != nil {
		t.AppendHeader(header)
	}
	var columns []table.ColumnConfig
	for _, n := range numbers {
		columns = append(columns, table.ColumnConfig{
			Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight, AlignFooter: text.AlignRight,
		})
	}
	t.SetColumnConfigs(columns)
	t.SuppressTrailingSpaces()
	return t
}

// terminal reports whether somebody is sitting behind f, an io.Reader or
// io.Writer.
func terminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// printable is a key or a name as it can be told from what is around it, and
// from others: quoted where it has to be.
func printable(s string) string {
	q := strconv.Quote(s)
	if s == "" || s != strings.TrimSpace(s) || q != `"`+s+`"` {
		return q
	}
	return s
}

// count writes n with separators between its thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	digits := strings.TrimPrefix(s, "-")
	sign := s[:len(s)-len(digits)]
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// size writes a number of bytes in the unit that suits it.
func size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	f := float64(n)
	for len(units) > 1 && (f >= 1024 || f <= -1024) {
		f /= 1024
		units = units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[0])
}

// span writes a duration with as much detail as one wants to read.
func span(d time.Duration) string {
	seconds := int64(d.Round(time.Second) / time.Second)
	switch {
	case d < 0:
		return "-" + span(-d)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2g ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond)/time.Millisecond)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case seconds < 60:
		return fmt.Sprintf("%d s", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%d min %d s", seconds/60, seconds%60)
	case seconds < 48*3600:
		return fmt.Sprintf("%d h %d min", seconds/3600, seconds%3600/60)
	}
	return fmt.Sprintf("%d days", seconds/(24*3600))
}
