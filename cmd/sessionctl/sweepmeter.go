package main

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/admin"
)

// sweepMeter shows how far a sweep is: a bar on a terminal, and lines
// elsewhere.
type sweepMeter struct {
	a     *app
	bar   *bar
	quiet bool
	every time.Duration // between two lines
	total int64         // 0 if it is not known
	base  int64         // scanned by the runs before this one

	resumed      bool // and nothing was told yet
	begun, shown time.Time
	last         admin.Report // what was shown
	read, write  float64      // units per second, of late
}

const lineEvery = 5 * time.Second

// newSweepMeter is for a sweep that goes on from point. table is nil if it is
// not known.
func (a *app) newSweepMeter(s *dynamoStore, table *types.TableDescription, f sweepFlags, point *checkpoint) *sweepMeter {
	m := &sweepMeter{a: a, quiet: f.quiet, every: lineEvery, base: point.Scanned, resumed: point.Checkpoint != nil, begun: time.Now(), shown: time.Now()}
	m.last.Scanned = point.Scanned
	if m.quiet {
		return m
	}
	if table != nil {
		m.total = aws.ToInt64(table.ItemCount)
	}
	what := "Sweeping"
	if f.DryRun {
		what = "Looking"
	}
	m.bar = a.newBar(what, max(m.total-m.base, 0))
	if m.bar == nil {
		from := ""
		if m.base > 0 {
			from = fmt.Sprintf(", going on after %s items", count(m.base))
		}
		a.note("%s through the %s%s%s.", what, s, aboutHow(m.total), from)
	}
	return m
}

func aboutHow(total int64) string {
	if total == 0 {
		return ""
	}
	return fmt.Sprintf(", about %s items", count(total))
}

func (m *sweepMeter) show(r admin.Report) {
	if m.quiet {
		return
	}
	if m.resumed { // r has what the runs before this one did
		m.resumed, m.base, m.last = false, r.Scanned, r
	}
	now := time.Now()
	since := now.Sub(m.shown)
	if m.bar == nil && since < m.every || since < 100*time.Millisecond {
		return
	}
	seconds := since.Seconds()
	m.read = (r.ReadUnits - m.last.ReadUnits) / seconds
	m.write = (r.WriteUnits - m.last.WriteUnits) / seconds
	rate := float64(r.Scanned-m.last.Scanned) / seconds
	m.shown, m.last = now, r
	using := fmt.Sprintf("%s expired, %s deleted; %.0f read and %.0f write units/s", count(r.Expired), count(r.Deleted), m.read, m.write)
	if m.bar != nil {
		m.bar.set(r.Scanned-m.base, using)
		return
	}
	of, left := "", ""
	if m.total > r.Scanned {
		of = fmt.Sprintf(" of about %s", count(m.total))
		overall := float64(r.Scanned-m.base) / now.Sub(m.begun).Seconds()
		if seconds := float64(m.total-r.Scanned) / overall; seconds < 1e9 { // else nobody waits for it
			left = fmt.Sprintf("; about %s left", span(time.Duration(seconds)*time.Second))
		}
	}
	m.a.note("%s: %s%s scanned, %.0f/s; %s%s", span(now.Sub(m.begun).Round(time.Second)), count(r.Scanned), of, rate, using, left)
}

func (m *sweepMeter) close() { m.bar.close() }
