package differential

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v4"
)

var behaviours = append(responses(), requests()...)

var modified = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

func responses() []behaviour {
	return []behaviour{
		{name: "nothing", handle: func(http.ResponseWriter, *http.Request, *probe) {}},
		{name: "a short page", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			n, err := io.WriteString(w, "page")
			p.note("wrote %d, %v", n, err)
		}},
		{name: "a long page", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			for range 100 {
				if _, err := w.Write(bytes.Repeat([]byte("x"), 10000)); err != nil {
					p.note("%v", err)
				}
			}
		}},
		{name: "with a length", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			w.Header().Set("Content-Length", "4")
			_, err := io.WriteString(w, "page")
			p.note("%v", err)
			_, err = io.WriteString(w, "more")
			p.note("%v", err)
		}},
		{name: "less than its length", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header().Set("Content-Length", "40")
			_, _ = io.WriteString(w, "page")
		}},
		{name: "no content", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			w.WriteHeader(http.StatusNoContent)
			_, err := io.WriteString(w, "page")
			p.note("%v", err)
		}},
		{name: "not modified", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header().Set("Etag", `"a"`)
			w.WriteHeader(http.StatusNotModified)
		}},
		{name: "not found", handle: func(w http.ResponseWriter, r *http.Request, _ *probe) { http.NotFound(w, r) }},
		{name: "error after headers", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("X-Page", "1")
			http.Error(w, "broken", http.StatusBadGateway)
		}},
		{name: "redirect", handle: func(w http.ResponseWriter, r *http.Request, _ *probe) {
			http.Redirect(w, r, "../x?y=z", http.StatusSeeOther)
		}},
		{name: "HEAD", ask: func(c *client) { c.do(c.request("HEAD", "/", nil)) }, handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			n, err := io.WriteString(w, "page")
			p.note("wrote %d, %v", n, err)
		}},
		{name: "HEAD of a long page", ask: func(c *client) { c.do(c.request("HEAD", "/", nil)) }, handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100000))
		}},
		{name: "OPTIONS *", only: "1", in: "net/http", ask: func(c *client) {
			c.raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}, handle: func(http.ResponseWriter, *http.Request, *probe) {}},
		{name: "sniffed", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { _, _ = io.WriteString(w, "<!doctype html>") }},
		{name: "not sniffed", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<!doctype html>")
		}},
		{name: "no date", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { w.Header()["Date"] = nil }},
		{name: "cookies, Vary and Cache-Control of its own", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
			http.SetCookie(w, &http.Cookie{Name: cookieName + "2", Value: "2"})
			w.Header().Add("Vary", "Origin")
			w.Header().Set("Cache-Control", "private, max-age=5")
		}},
		{name: "two statuses", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.WriteHeader(http.StatusAccepted)
			w.WriteHeader(http.StatusTeapot)
		}},
		{name: "status after the body", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			_, _ = io.WriteString(w, "page")
			w.WriteHeader(http.StatusTeapot)
		}},
		{name: "no status", in: "net/http", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { w.WriteHeader(0) }},
		{name: "a status of four digits", in: "net/http", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { w.WriteHeader(1000) }},
		{name: "early hints", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Add("Link", "</b.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			clear(w.Header())
			_, _ = io.WriteString(w, "page")
		}},
		{name: "trailers", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header().Set("Trailer", "X-Sum, X-Not-Set")
			_, _ = io.WriteString(w, "page")
			w.Header().Set("X-Sum", "1")
			w.Header().Set("X-Late", "1")
		}},
		{name: "trailers that are not announced", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			_, _ = io.WriteString(w, "page")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}},
		{name: "flush", ask: streamed, handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			_, _ = io.WriteString(w, "one\n")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Late", "1")
			p.wait()
			_, _ = io.WriteString(w, "two\n")
		}},
		{name: "flush by controller", ask: streamed, handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			_, _ = io.WriteString(w, "one\n")
			p.note("%v", http.NewResponseController(w).Flush())
			p.wait()
			_, _ = io.WriteString(w, "two\n")
		}},
		{name: "flush before anything", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			w.Header().Set("Content-Type", "text/event-stream")
			p.note("%v", http.NewResponseController(w).Flush())
		}},
		{name: "a client that leaves", ask: leave, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			p.note("%v", r.Context().Err())
		}},
		{name: "CloseNotify", ask: leave, in: "net/http", handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			gone := w.(interface{ CloseNotify() <-chan bool }).CloseNotify()
			w.(http.Flusher).Flush()
			p.note("%v", <-gone)
		}},
		{name: "optional interfaces", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			_, f := w.(http.Flusher)
			_, h := w.(http.Hijacker)
			_, c := w.(interface{ CloseNotify() <-chan bool })
			_, r := w.(io.ReaderFrom)
			_, s := w.(io.StringWriter)
			p.note("Flusher %v, Hijacker %v, CloseNotifier %v, ReaderFrom %v, StringWriter %v", f, h, c, r, s)
			if push, ok := w.(http.Pusher); ok {
				p.note("Push: %v", push.Push("/x", nil)) // which Go's client has turned off
			}
		}},
		{name: "controls", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			c := http.NewResponseController(w)
			p.note("%v, %v, %v", c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{}), c.EnableFullDuplex())
		}},
		{name: "write deadline", handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			p.note("%v", http.NewResponseController(w).SetWriteDeadline(time.Now().Add(-time.Second)))
			_, _ = io.WriteString(w, "page")
			p.note("%v", http.NewResponseController(w).Flush() != nil)
		}},
		{name: "hijack", headless: true, only: "1", ask: func(c *client) { c.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }, handle: hijack},
		{name: "hijack on HTTP/2", only: "2", in: "net/http", handle: hijack},
		{name: "hijack by controller", headless: true, ask: func(c *client) { c.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }, only: "1", handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			conn, _, err := http.NewResponseController(w).Hijack()
			p.note("%v", err)
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 299 ours\r\n\r\n")
			_ = conn.Close()
			_, err = io.WriteString(w, "page")
			p.note("%v", err)
		}},
		{name: "upgrade", headless: true, only: "1", ask: func(c *client) {
			r := c.request("GET", "/", nil)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "echo")
			resp := c.send(r)
			if resp == nil {
				return
			}
			if rw, ok := resp.Body.(io.ReadWriteCloser); ok {
				_, _ = io.WriteString(rw, "ping\n")
				c.lines(rw)
				_ = rw.Close()
			}
		}, handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				p.note("%v", err)
				return
			}
			_, _ = buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = buf.Flush()
			line, err := buf.ReadString('\n')
			p.note("%v", err)
			_, _ = io.WriteString(conn, line)
			_ = conn.Close()
		}},
		{name: "copied from a file", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			f := file(p, 100000)
			defer func() { _ = f.Close() }()
			n, err := io.Copy(w, f)
			p.note("copied %d, %v", n, err)
		}},
		{name: "a part of a file", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			f := file(p, 100000)
			defer func() { _ = f.Close() }()
			_, _ = io.WriteString(w, "head")
			n, err := io.CopyN(w, f, 50000)
			p.note("copied %d, %v", n, err)
		}},
		{name: "a reader that fails", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			n, err := io.Copy(w, io.MultiReader(strings.NewReader("page"), failing{}))
			p.note("copied %d, %v", n, err)
		}},
		{name: "content", ask: func(c *client) {
			for _, h := range []http.Header{
				{}, {"Range": {"bytes=2-5"}}, {"Range": {"bytes=0-1,4-"}}, {"Range": {"bytes=90-"}}, {"If-None-Match": {`"a"`}},
				{"If-Modified-Since": {modified.Format(http.TimeFormat)}}, {"If-Match": {`"b"`}},
				{"Range": {"bytes=2-5"}, "If-Range": {`"b"`}},
			} {
				r := c.request("GET", "/", nil)
				r.Header = h
				c.do(r)
			}
		}, handle: func(w http.ResponseWriter, r *http.Request, _ *probe) {
			w.Header().Set("Etag", `"a"`)
			http.ServeContent(w, r, "a.txt", modified, strings.NewReader("0123456789"))
		}},
		{name: "file server", ask: func(c *client) {
			for _, path := range []string{"/a.txt", "/missing", "/folder", "/folder/", "/index.html"} {
				c.get(path)
			}
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			root := p.t.TempDir()
			_ = os.Mkdir(filepath.Join(root, "folder"), 0o700)
			name := filepath.Join(root, "a.txt")
			_ = os.WriteFile(name, []byte("text"), 0o600)
			for _, name := range []string{name, filepath.Join(root, "folder"), root} {
				_ = os.Chtimes(name, modified, modified)
			}
			http.FileServer(http.Dir(root)).ServeHTTP(w, r)
		}},
		{name: "panic", outside: recovering, handle: func(http.ResponseWriter, *http.Request, *probe) { panic("on purpose") }},
		{name: "panic, not recovered", handle: func(http.ResponseWriter, *http.Request, *probe) { panic("on purpose") }, ask: func(c *client) {
			c.do(c.request("POST", "/", strings.NewReader("x"))) // which is not repeated
		}},
		{name: "abort", handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "panic recovered inside", inside: recovering, in: "net/http", handle: func(http.ResponseWriter, *http.Request, *probe) { panic("on purpose") }},
		{name: "headers set outside", outside: func(next http.Handler, p *probe) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Before", "1")
				w.Header().Set("X-Changed", "1")
				next.ServeHTTP(w, r)
				w.Header().Set("X-After", "1")
				w.Header().Del("X-Before")
			})
		}, handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { w.Header().Set("X-Changed", "2") }},
		{name: "body written outside", in: "net/http", outside: func(next http.Handler, p *probe) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "outside")
			})
		}, handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { w.Header().Set("X-Page", "1") }},
		{name: "a writer outside without optional interfaces", outside: func(next http.Handler, p *probe) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
			})
		}, in: "net/http", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			_, f := w.(http.Flusher)
			_, h := w.(http.Hijacker)
			c := http.NewResponseController(w)
			p.note("%v, %v, %v, %v", f, h, c.Flush(), c.EnableFullDuplex())
			_, _ = io.WriteString(w, "page")
		}},
		{name: "a writer outside that unwraps", outside: func(next http.Handler, p *probe) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(unwraps{w}, r) })
		}, in: "net/http", handle: func(w http.ResponseWriter, _ *http.Request, p *probe) {
			_, _ = io.WriteString(w, "page")
			c := http.NewResponseController(w)
			p.note("%v, %v", c.Flush(), c.SetWriteDeadline(time.Time{}))
		}},
		{name: "timeout outside, in time", outside: limited(time.Minute), handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			w.Header().Set("X-Page", "1")
			_, flusher := w.(http.Flusher)
			_, pusher := w.(http.Pusher)
			_, deadline := r.Context().Deadline()
			p.note("%v, %v, %v", flusher, pusher, deadline)
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "page")
		}},
		{name: "timeout outside, too late", outside: limited(time.Millisecond), in: "net/http", ask: func(c *client) {
			c.get("/")
			<-c.p.step
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			defer close(p.step)
			<-r.Context().Done()
		}},
		{name: "timeout inside, in time", inside: limited(time.Minute), handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.Header().Set("X-Page", "1")
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "page")
		}},
		{name: "timeout inside, too late", inside: limited(50 * time.Millisecond), in: "net/http", ask: func(c *client) {
			c.get("/")
			<-c.p.step
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			defer close(p.step)
			<-r.Context().Done()
			for err := error(nil); !errors.Is(err, http.ErrHandlerTimeout); {
				_, err = io.WriteString(w, "late")
			}
		}},
		{name: "gin: stream", gin: func(c *gin.Context, p *probe) {
			n := 0
			p.note("client gone: %v", c.Stream(func(w io.Writer) bool {
				n++
				_, _ = fmt.Fprintln(w, n)
				return n < 3
			}))
		}},
		{name: "gin: events", gin: func(c *gin.Context, _ *probe) { c.SSEvent("tick", 1) }},
		{name: "gin: JSON", gin: func(c *gin.Context, _ *probe) { c.JSON(http.StatusCreated, gin.H{"a": 1}) }},
		{name: "gin: status only", gin: func(c *gin.Context, _ *probe) { c.Status(http.StatusAccepted) }},
		{name: "gin: abort", gin: func(c *gin.Context, _ *probe) { c.AbortWithStatus(http.StatusForbidden) }},
		{name: "gin: file", gin: func(c *gin.Context, p *probe) {
			f := file(p, 10)
			_ = f.Close()
			_ = os.Chtimes(f.Name(), modified, modified)
			c.File(f.Name())
		}},
		{name: "gin: redirect", gin: func(c *gin.Context, _ *probe) { c.Redirect(http.StatusFound, "/x") }},
		{name: "gin: state of the response", gin: func(c *gin.Context, p *probe) {
			c.String(http.StatusTeapot, "page")
			p.note("%v %d %d", c.Writer.Written(), c.Writer.Status(), c.Writer.Size())
		}},
		{name: "echo: JSON", echo: func(c echo.Context, _ *probe) error { return c.JSON(http.StatusCreated, map[string]int{"a": 1}) }},
		{name: "echo: stream", echo: func(c echo.Context, _ *probe) error {
			return c.Stream(http.StatusOK, "text/plain", strings.NewReader("page"))
		}},
		{name: "echo: flush", echo: func(c echo.Context, _ *probe) error {
			c.Response().WriteHeader(http.StatusOK)
			_, err := io.WriteString(c.Response(), "page")
			c.Response().Flush()
			return err
		}},
		{name: "echo: error", echo: func(echo.Context, *probe) error { return echo.NewHTTPError(http.StatusTeapot, "no tea") }},
		{name: "echo: plain error", echo: func(echo.Context, *probe) error { return errors.New("broken") }},
		{name: "echo: after", echo: func(c echo.Context, p *probe) error {
			c.Response().Before(func() { c.Response().Header().Set("X-Before", "1") })
			c.Response().After(func() { p.note("after, %d bytes", c.Response().Size) })
			return c.String(http.StatusOK, "page")
		}},
		{name: "echo: file", echo: func(c echo.Context, p *probe) error {
			f := file(p, 10)
			_ = f.Close()
			_ = os.Chtimes(f.Name(), modified, modified)
			return c.File(f.Name())
		}},
	}
}

// streamed asks for two lines, and for the second when it has the first.
func streamed(c *client) {
	resp := c.send(c.request("GET", "/", nil))
	if resp == nil {
		return
	}
	first := make([]byte, 4)
	_, err := io.ReadFull(resp.Body, first)
	c.note("first %q, %v", first, err)
	c.p.step <- struct{}{}
	c.rest(resp)
}

// leave disconnects when the response has begun.
func leave(c *client) {
	resp := c.send(c.request("GET", "/", nil))
	if resp == nil {
		return
	}
	_ = resp.Body.Close()
	c.http.CloseIdleConnections()
	<-c.p.returned
}

func hijack(w http.ResponseWriter, _ *http.Request, p *probe) {
	h, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "cannot", http.StatusNotImplemented)
		return
	}
	conn, buf, err := h.Hijack()
	if err != nil {
		p.note("%v", err)
		return
	}
	_, _ = buf.WriteString("HTTP/1.1 299 ours\r\nX-Raw: 1\r\n\r\npage")
	_ = buf.Flush()
	_ = conn.Close()
	_, err = io.WriteString(w, "page")
	p.note("%v", err)
}

func file(p *probe, size int) *os.File {
	f, err := os.Create(filepath.Join(p.t.TempDir(), "a.txt"))
	if err != nil {
		p.t.Fatal(err)
	}
	_, _ = f.Write(bytes.Repeat([]byte("x"), size))
	_, _ = f.Seek(0, io.SeekStart)
	return f
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cannot be read") }

type unwraps struct{ http.ResponseWriter }

func (w unwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func recovering(next http.Handler, p *probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				p.note("recovered: %v", v)
				http.Error(w, "recovered", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

func limited(d time.Duration) middleware {
	return func(next http.Handler, _ *probe) http.Handler { return http.TimeoutHandler(next, d, "too late") }
}
