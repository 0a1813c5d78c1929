package main

import (
	"math"
	"time"
)

// latencies counts durations in classes that are 1 % wide, so that it takes
// the same room for any number of them.
type latencies struct {
	classes [classes]int64
	n       int64
	errors  int64
	most    time.Duration
}

const (
	classWidth = 1.01
	classes    = 2600 // up to more than two minutes
)

var classLog = math.Log(classWidth)

func (l *latencies) add(d time.Duration) {
	i := 0
	if d > 1 {
		i = min(int(math.Log(float64(d))/classLog), classes-1)
	}
	l.classes[i]++
	l.n++
	l.most = max(l.most, d)
}

func (l *latencies) merge(o *latencies) {
	for i, n := range o.classes {
		l.classes[i] += n
	}
	l.n += o.n
	l.errors += o.errors
	l.most = max(l.most, o.most)
}

// quantile returns a duration that the share q of all do not exceed, within
// 1 %.
func (l *latencies) quantile(q float64) time.Duration {
	left := int64(math.Ceil(q * float64(l.n)))
	for i, n := range l.classes {
		if left -= n; left <= 0 && l.n > 0 {
			return min(time.Duration(math.Pow(classWidth, float64(i+1))), l.most)
		}
	}
	return l.most
}
