package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// cost is the cost of one request.
type cost struct {
	NS, Allocs, Bytes float64
}

// slot makes n requests with each caller at once, and returns the cost of one.
func slot(callers []func() error, n int) (cost, error) {
	var before, after runtime.MemStats
	var wg sync.WaitGroup
	errs := make([]error, len(callers))
	runtime.ReadMemStats(&before)
	began := time.Now()
	if len(callers) == 1 {
		errs[0] = times(n, callers[0])
	} else {
		for i, call := range callers {
			wg.Go(func() { errs[i] = times(n, call) })
		}
		wg.Wait()
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	for _, err := range errs {
		if err != nil {
			return cost{}, err
		}
	}
	requests := float64(n * len(callers))
	return cost{
		NS:     float64(took.Nanoseconds()) / requests,
		Allocs: float64(after.Mallocs-before.Mallocs) / requests,
		Bytes:  float64(after.TotalAlloc-before.TotalAlloc) / requests,
	}, nil
}

func times(n int, call func() error) error {
	for range n {
		if err := call(); err != nil {
			return err
		}
	}
	return nil
}

// enough finds the number of requests that take about d.
func enough(call func() error, d time.Duration) (int, error) {
	for n := 1; ; n *= 2 {
		began := time.Now()
		if err := times(n, call); err != nil {
			return 0, err
		}
		if took := time.Since(began); took > d/8 || n >= 1<<20 {
			return max(1, int(float64(n)*float64(d)/float64(took))), nil
		}
	}
}

// median of each part on its own.
func median(all []cost) cost {
	pick := func(f func(cost) float64) float64 {
		vs := make([]float64, len(all))
		for i, c := range all {
			vs[i] = f(c)
		}
		return middle(vs)
	}
	return cost{
		NS:     pick(func(c cost) float64 { return c.NS }),
		Allocs: pick(func(c cost) float64 { return c.Allocs }),
		Bytes:  pick(func(c cost) float64 { return c.Bytes }),
	}
}

func middle(vs []float64) float64 { return quantile(vs, 0.5) }

func quantile(vs []float64, q float64) float64 {
	if len(vs) == 0 {
		return math.NaN()
	}
	vs = slices.Sorted(slices.Values(vs))
	at := q * float64(len(vs)-1)
	i := int(at)
	if i+1 == len(vs) {
		return vs[i]
	}
	return vs[i] + (at-float64(i))*(vs[i+1]-vs[i])
}

// Speed is the cost of one kind of request for one subject.
type Speed struct {
	Subject string
	Work    work
	Size    string
	One     cost    // by one caller
	Two     cost    // by two, per request
	Scaling float64 // requests per second of two, as a multiple of one
}

// way is a number of callers and of cores.
type way struct{ cores, callers int }

// plan says how long to measure.
type plan struct {
	rounds int
	slot   time.Duration
}

// speeds measures subjects in rounds. In each round all subjects take their turn,
// in rotating order, so that other load on the machine affects all alike. requests
// is the context of the requests.
func speeds(ctx, requests context.Context, subjects []subject, ws []work, size string, p plan, k kind, ways []way) ([]Speed, error) {
	vs := values(size)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var out []Speed
	for _, w := range ws {
		type turn struct {
			callers []func() error
			n       int
			costs   map[int][]cost // by the number of callers
			close   func() error
		}
		turns := make([]turn, len(subjects))
		stop := func() error {
			for _, t := range turns {
				if t.close != nil {
					if err := t.close(); err != nil {
						return err
					}
				}
			}
			return nil
		}
		for i, s := range subjects {
			r, err := s.start(requests, func() map[string]any { return vs })
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			t := turn{costs: map[int][]cost{}, close: r.close}
			for range 2 {
				call, err := r.caller(w, k)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				t.callers = append(t.callers, call)
			}
			runtime.GOMAXPROCS(1)
			if t.n, err = enough(t.callers[0], p.slot); err != nil {
				return nil, fmt.Errorf("%s: %s, %s: %w", s.name, w, size, err)
			}
			turns[i] = t
		}
		for round := range p.rounds {
			for place := range turns {
				i := (place + round) % len(turns)
				for _, how := range ways {
					if err := ctx.Err(); err != nil {
						return nil, err
					}
					runtime.GOMAXPROCS(how.cores)
					got, err := slot(turns[i].callers[:how.callers], turns[i].n)
					if err != nil {
						return nil, fmt.Errorf("%s: %s, %s: %w", subjects[i].name, w, size, err)
					}
					turns[i].costs[how.callers] = append(turns[i].costs[how.callers], got)
				}
			}
		}
		for i, s := range subjects {
			costs := turns[i].costs
			sp := Speed{Subject: s.name, Work: w, Size: size, One: median(costs[1]), Two: median(costs[2])}
			var scaling []float64
			for r := range min(len(costs[1]), len(costs[2])) {
				scaling = append(scaling, costs[1][r].NS/costs[2][r].NS)
			}
			sp.Scaling = middle(scaling)
			out = append(out, sp)
		}
		if err := stop(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Footprint is the memory that a session takes.
type Footprint struct {
	Subject  string
	Sessions int
	Bytes    float64 // a session
}

// footprints fills each store in memory with n small sessions.
func footprints(ctx context.Context, n int) ([]Footprint, error) {
	var out []Footprint
	for _, s := range local() {
		if !s.memory {
			continue
		}
		r, err := s.start(context.Background(), unique)
		if err != nil {
			return nil, err
		}
		var callers []func() error
		for range runtime.GOMAXPROCS(0) {
			call, err := r.caller(fresh, whole)
			if err != nil {
				return nil, err
			}
			callers = append(callers, call)
		}
		for _, call := range callers { // pools and caches
			if err := times(100, call); err != nil {
				return nil, err
			}
		}
		before := live()
		errs := make([]error, len(callers))
		var wg sync.WaitGroup
		for i, call := range callers {
			wg.Go(func() { errs[i] = times(n/len(callers), call) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		after := live()
		runtime.KeepAlive(r)
		out = append(out, Footprint{s.name, n, (after - before) / float64(n/len(callers)*len(callers))})
		if err := errors.Join(ctx.Err(), r.close()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// live returns the bytes in use on the heap, without garbage.
func live() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // for objects with finalizers or in a pool
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
