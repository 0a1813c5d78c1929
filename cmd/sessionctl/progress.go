package main

import (
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"golang.org/x/term"
)

// bar shows on a terminal how far a command is. A nil bar shows nothing.
type bar struct {
	writer  progress.Writer
	tracker *progress.Tracker
	ended   chan struct{}
}

// newBar shows what is done and how much of total is, or only that something
// is going on if total is 0. It is gone when it is closed. It is nil if
// nobody is watching.
func (a *app) newBar(what string, total int64) *bar {
	if !terminal(a.stderr.w) {
		return nil
	}
	return drawBar(a.stderr.w, escape(what), total)
}

// drawBar controls the terminal, so what it shows must be harmless.
func drawBar(w io.Writer, what string, total int64) *bar {
	b := &bar{
		writer:  progress.NewWriter(),
		tracker: &progress.Tracker{Message: what, Total: total, AutoStopDisabled: true, RemoveOnCompletion: true},
		ended:   make(chan struct{}),
	}
	b.tracker.Units.Formatter = count
	style := progress.StyleBlocks
	style.Options.Separator = "  "
	style.Options.PercentFormat = "%3.0f %%"
	style.Options.ETAString = "left"
	style.Options.TimeInProgressPrecision = time.Second
	style.Visibility.ETA = total > 0
	style.Visibility.Percentage = total > 0
	style.Visibility.Value = total > 0
	style.Visibility.Speed = total > 0
	style.Visibility.ETAOverall = false
	b.writer.SetStyle(style)
	b.writer.SetOutputWriter(w)
	b.writer.SetTrackerLength(24)
	b.writer.SetTrackerPosition(progress.PositionRight)
	b.writer.SetUpdateFrequency(100 * time.Millisecond)
	b.writer.SetAutoStop(true) // Stop would be lost if it came before Render
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			b.writer.SetTerminalWidth(width)
		}
	}
	b.writer.AppendTracker(b.tracker)
	go func() {
		defer close(b.ended)
		b.writer.Render()
	}()
	return b
}

// set moves the bar to done. If that is more than there were thought to be,
// there are more. below is a line of its own.
func (b *bar) set(done int64, below string) {
	if b == nil {
		return
	}
	if total := b.tracker.Total; total > 0 && done > total {
		b.tracker.UpdateTotal(done)
	}
	b.tracker.SetValue(done)
	b.writer.SetPinnedMessages(below)
}

func (b *bar) close() {
	if b == nil {
		return
	}
	b.writer.SetPinnedMessages()
	b.tracker.MarkAsDone()
	<-b.ended
}

// working shows that something takes a while, until the function that it
// returns is called.
func (a *app) working(what string) (done func()) {
	b := a.newBar(what, 0)
	if b == nil {
		a.note("%s ...", what)
	}
	return b.close
}
