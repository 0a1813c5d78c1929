package transparent

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// writers returns a writer for each set of the optional interfaces: F, H, C and P
// are for Flusher, Hijacker, CloseNotifier and Pusher.
func writers(j *journal) map[string]http.ResponseWriter {
	b, f, h, c, p := newBelow(j).plain(), flushes{j}, hijacks{j}, notifies{j}, pushes{j}
	type w = http.ResponseWriter
	return map[string]http.ResponseWriter{
		"": b,
		"F": struct {
			w
			flushes
		}{b, f},
		"H": struct {
			w
			hijacks
		}{b, h},
		"C": struct {
			w
			notifies
		}{b, c},
		"P": struct {
			w
			pushes
		}{b, p},
		"FH": struct {
			w
			flushes
			hijacks
		}{b, f, h},
		"FC": struct {
			w
			flushes
			notifies
		}{b, f, c},
		"FP": struct {
			w
			flushes
			pushes
		}{b, f, p},
		"HC": struct {
			w
			hijacks
			notifies
		}{b, h, c},
		"HP": struct {
			w
			hijacks
			pushes
		}{b, h, p},
		"CP": struct {
			w
			notifies
			pushes
		}{b, c, p},
		"FHC": struct {
			w
			flushes
			hijacks
			notifies
		}{b, f, h, c},
		"FHP": struct {
			w
			flushes
			hijacks
			pushes
		}{b, f, h, p},
		"FCP": struct {
			w
			flushes
			notifies
			pushes
		}{b, f, c, p},
		"HCP": struct {
			w
			hijacks
			notifies
			pushes
		}{b, h, c, p},
		"FHCP": struct {
			w
			flushes
			hijacks
			notifies
			pushes
		}{b, f, h, c, p},
	}
}

// interfaces returns which of them w has.
func interfaces(w http.ResponseWriter) (set string) {
	if _, ok := w.(http.Flusher); ok {
		set += "F"
	}
	if _, ok := w.(http.Hijacker); ok {
		set += "H"
	}
	if _, ok := w.(closeNotifier); ok {
		set += "C"
	}
	if _, ok := w.(http.Pusher); ok {
		set += "P"
	}
	return set
}

// TestFace: a face has exactly the optional interfaces of the writer below, and
// each call gets there, after the hook.
func TestFace(t *testing.T) {
	j := &journal{}
	sets := writers(j)
	if len(sets) != 16 {
		t.Fatalf("%d sets", len(sets))
	}
	for set, w := range sets {
		t.Run("set "+set, func(t *testing.T) {
			if got := interfaces(w); got != set {
				t.Fatalf("the writer below has %q", got)
			}
			h := &hooks{journal: j}
			wr := &Writer{ResponseWriter: w, Hooks: h}
			f := wr.Face()
			if got := interfaces(f); got != set {
				t.Errorf("the face has %q", got)
			}
			_, flushErr := f.(interface{ FlushError() error })
			_, readFrom := f.(io.ReaderFrom)
			_, writeString := f.(io.StringWriter)
			if flushErr != strings.Contains(set, "F") || readFrom != strings.Contains(set, "H") || !writeString {
				t.Errorf("FlushError %v, ReadFrom %v, WriteString %v", flushErr, readFrom, writeString)
			}

			f.Header().Set("X-Set", "1")
			if w.Header().Get("X-Set") != "1" {
				t.Error("it has headers of its own")
			}
			j.wantCalls(t, "Header")
			f.WriteHeader(http.StatusOK)
			j.wantCalls(t, "WriteHeader", "Start", "below.WriteHeader")
			if n, err := f.Write([]byte("abc")); n != 3 || err != nil {
				t.Errorf("Write: %d, %v", n, err)
			}
			j.wantCalls(t, "Write", "Start", "below.Write")
			if n, err := io.WriteString(f, "abc"); n != 3 || err != nil {
				t.Errorf("WriteString: %d, %v", n, err)
			}
			j.wantCalls(t, "WriteString", "Start", "below.Write")

			if to, ok := f.(http.Flusher); ok {
				to.Flush()
				j.wantCalls(t, "Flush", "Start", "below.Flush")
			}
			if to, ok := f.(interface{ FlushError() error }); ok {
				if err := to.FlushError(); err != nil {
					t.Errorf("FlushError: %v", err)
				}
				j.wantCalls(t, "FlushError", "Start", "below.Flush")
			}
			if to, ok := f.(http.Hijacker); ok {
				if _, _, err := to.Hijack(); !errors.Is(err, errBelow) {
					t.Errorf("Hijack: %v", err)
				}
				j.wantCalls(t, "Hijack", "Hijack", "below.Hijack", "undo")
			}
			if to, ok := f.(io.ReaderFrom); ok {
				if n, err := to.ReadFrom(strings.NewReader("abc")); n != 3 || err != nil {
					t.Errorf("ReadFrom: %d, %v", n, err)
				}
				j.wantCalls(t, "ReadFrom", "Start", "below.ReadFrom")
			}
			if to, ok := f.(closeNotifier); ok {
				if !<-to.CloseNotify() {
					t.Error("CloseNotify: another channel")
				}
				j.wantCalls(t, "CloseNotify", "below.CloseNotify")
			}
			if to, ok := f.(http.Pusher); ok {
				if err := to.Push("/x", &http.PushOptions{Method: "HEAD"}); !errors.Is(err, errBelow) {
					t.Errorf("Push: %v", err)
				}
				j.wantCalls(t, "Push", "below.Push /x HEAD")
			}

			if n := testing.AllocsPerRun(100, func() { f = wr.Face() }); n != 0 {
				t.Errorf("making a face costs %v allocations", n)
			}
		})
	}
}

// hides has nothing but a way to the writer below.
type hides struct{ http.ResponseWriter }

func (h hides) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// flushesToo is a writer that hides others, and flushes by itself.
type flushesToo struct {
	hides
	flushes
}

// TestFaceUnwrap: a ResponseController finds what the writers below have, and
// nothing by which it could start the response without the hook.
func TestFaceUnwrap(t *testing.T) {
	j := &journal{}
	sets := writers(j)
	for _, tt := range []struct {
		name          string
		w             http.ResponseWriter
		guarded       bool // Unwrap gives the Writer, and not what is below
		flush, hijack []string
	}{
		{"nothing", sets[""], false, nil, nil},
		{"all", sets["FHCP"], false, []string{"Start", "below.Flush"}, []string{"Hijack", "below.Hijack", "undo"}},
		{"flushes", sets["F"], false, []string{"Start", "below.Flush"}, nil},
		{"hides nothing", hides{sets["CP"]}, false, nil, nil},
		{"hides Flush", hides{sets["F"]}, true, []string{"Start", "below.Flush"}, nil},
		{"hides Hijack", hides{hides{sets["H"]}}, true, nil, []string{"Hijack", "below.Hijack", "undo"}},
		{"hides both", hides{sets["FH"]}, true, []string{"Start", "below.Flush"}, []string{"Hijack", "below.Hijack", "undo"}},
		{"flushes, and hides Flush", flushesToo{hides{sets["F"]}, flushes{j}}, false, []string{"Start", "below.Flush"}, nil},
		{"flushes, and hides Hijack", flushesToo{hides{sets["H"]}, flushes{j}}, true, []string{"Start", "below.Flush"}, []string{"Hijack", "below.Hijack", "undo"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Writer{ResponseWriter: tt.w, Hooks: &hooks{journal: j}}
			f := w.Face()
			next := f.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
			if got, ok := next.(*Writer); ok != tt.guarded || ok && got != w {
				t.Errorf("Unwrap gives a %T", next)
			}
			if w.Unwrap() != tt.w {
				t.Error("the writer itself gives another one")
			}
			c := http.NewResponseController(f)
			if err := c.Flush(); (err == nil) != (tt.flush != nil) || err != nil && !errors.Is(err, http.ErrNotSupported) {
				t.Errorf("Flush: %v", err)
			}
			j.wantCalls(t, "Flush", tt.flush...)
			if _, _, err := c.Hijack(); err == nil || errors.Is(err, http.ErrNotSupported) != (tt.hijack == nil) {
				t.Errorf("Hijack: %v", err)
			}
			j.wantCalls(t, "Hijack", tt.hijack...)
		})
	}
}
