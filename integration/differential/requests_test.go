package differential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v4"
)

func requests() []behaviour {
	return []behaviour{
		{name: "form", ask: func(c *client) {
			r := c.request("POST", "/post?a=1&b=2", strings.NewReader("b=3&c=4"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			c.do(r)
		}, handle: func(w http.ResponseWriter, r *http.Request, _ *probe) {
			_, _ = fmt.Fprint(w, r.FormValue("b"), r.FormValue("c"))
		}},
		{name: "form: not parsed", ask: func(c *client) {
			r := c.request("POST", "/post", strings.NewReader("b=3"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			c.do(r)
		}, handle: func(http.ResponseWriter, *http.Request, *probe) {}},
		{name: "upload", ask: uploading(100), handle: func(_ http.ResponseWriter, r *http.Request, p *probe) {
			p.note("%v, %q", r.ParseMultipartForm(1<<20), r.FormValue("field"))
		}},
		{name: "upload that is stored", ask: uploading(1 << 20), handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			err := r.ParseMultipartForm(1)
			f, h, ferr := r.FormFile("file")
			p.note("%v, %v, %s of %d", err, ferr, h.Filename, h.Size)
			_, _ = io.Copy(w, f)
			_ = f.Close()
		}},
		{name: "upload, and a panic", ask: uploading(1 << 20), outside: recovering, handle: func(_ http.ResponseWriter, r *http.Request, _ *probe) {
			_ = r.ParseMultipartForm(1)
			panic("on purpose")
		}},
		{name: "upload read in parts", ask: uploading(100), handle: func(_ http.ResponseWriter, r *http.Request, p *probe) {
			parts, err := r.MultipartReader()
			p.note("%v", err)
			for {
				part, err := parts.NextPart()
				if err != nil {
					p.note("%v", err)
					return
				}
				n, err := io.Copy(io.Discard, part)
				p.note("%s: %d, %v", part.FormName(), n, err)
			}
		}, outside: after(func(w http.ResponseWriter, r *http.Request, p *probe) {
			p.note("after: %v", r.ParseMultipartForm(1))
		})},
		{name: "gin: upload", ask: uploading(1 << 20), gin: func(c *gin.Context, p *probe) {
			c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, 2<<20)
			_ = c.Request.ParseMultipartForm(1)
			h, err := c.FormFile("file")
			p.note("%s, %v", h.Filename, err)
			c.String(http.StatusOK, c.PostForm("field"))
		}},
		{name: "echo: upload", ask: uploading(1 << 20), echo: func(c echo.Context, p *probe) error {
			_ = c.Request().ParseMultipartForm(1)
			h, err := c.FormFile("file")
			p.note("%s, %v", h.Filename, err)
			return c.String(http.StatusOK, c.FormValue("field"))
		}},
		{name: "trailers that are announced", ask: trailing(true), handle: readTrailers},
		{name: "trailers that are not", ask: trailing(false), only: "1", handle: readTrailers},
		{name: "trailers, not read", ask: trailing(true), handle: func(http.ResponseWriter, *http.Request, *probe) {}},
		{name: "chunks without trailers", ask: func(c *client) {
			c.do(c.request("POST", "/post", struct{ io.Reader }{strings.NewReader("body")}))
		}, handle: readTrailers},
		{name: "a large body, not read", ask: func(c *client) {
			c.do(c.request("POST", "/post", bytes.NewReader(make([]byte, 100<<10))))
		}, handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) { _, _ = io.WriteString(w, "page") }},
		{name: "a large body", ask: func(c *client) {
			c.do(c.request("POST", "/post", bytes.NewReader(bytes.Repeat([]byte("x"), 3<<20))))
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			n, err := io.Copy(io.Discard, r.Body)
			p.note("%d, %v", n, err)
		}},
		// Frameworks whose writers hide the server's keep such a connection
		// open; the Handler closes it there too.
		{name: "a body that is too large", in: "net/http", ask: posting(100), handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			r.Body = http.MaxBytesReader(w, r.Body, 10)
			_, err := io.ReadAll(r.Body)
			limit := new(http.MaxBytesError)
			p.note("%v, %v", err, errors.As(err, &limit))
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		}},
		{name: "a body within the limit", ask: posting(10), handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			r.Body = http.MaxBytesReader(w, r.Body, 10)
			_, err := io.ReadAll(r.Body)
			p.note("%v", err)
		}},
		{name: "a body that is too large, said outside", in: "net/http", ask: posting(100), outside: func(next http.Handler, _ *probe) http.Handler {
			return http.MaxBytesHandler(next, 10)
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			_, err := io.ReadAll(r.Body)
			p.note("%v", err)
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		}},
		{name: "Expect: 100-continue, read", only: "1", ask: expecting, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			body, err := io.ReadAll(r.Body)
			p.note("%q, %v", body, err)
			_, _ = io.WriteString(w, "page")
		}},
		{name: "Expect: 100-continue, not read", only: "1", ask: expecting, handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			w.WriteHeader(http.StatusForbidden)
		}},
		{name: "Expect: 100-continue, said by the handler", only: "1", ask: expecting, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			w.WriteHeader(http.StatusContinue)
			body, err := io.ReadAll(r.Body)
			p.note("%q, %v", body, err)
		}},
		{name: "full duplex", handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			c := http.NewResponseController(w)
			p.note("%v", c.EnableFullDuplex())
			p.note("%v", c.Flush())
			buf := make([]byte, 5)
			for {
				n, err := io.ReadFull(r.Body, buf)
				if err != nil {
					p.note("%v", err)
					return
				}
				_, _ = w.Write(bytes.ToUpper(buf[:n]))
				_ = c.Flush()
			}
		}, ask: func(c *client) {
			body, feed := io.Pipe()
			go func() { _, _ = io.WriteString(feed, "ping ") }()
			resp := c.send(c.request("POST", "/post", body))
			if resp == nil {
				return
			}
			for range 3 {
				got := make([]byte, 5)
				_, err := io.ReadFull(resp.Body, got)
				c.note("%q, %v", got, err)
				_, _ = io.WriteString(feed, "pong ")
			}
			_ = feed.Close()
			c.rest(resp)
		}},
		{name: "body replaced inside", ask: posting(5), handle: func(w http.ResponseWriter, r *http.Request, _ *probe) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(append(body, "again"...)))
		}, outside: after(func(_ http.ResponseWriter, r *http.Request, p *probe) {
			body, err := io.ReadAll(r.Body)
			p.note("after: %q, %v", body, err)
		})},
		{name: "request changed inside", handle: func(_ http.ResponseWriter, r *http.Request, _ *probe) {
			r.Method, r.Host, r.RemoteAddr, r.RequestURI, r.ContentLength = "PUT", "", "", "/changed", 7
			u := *r.URL
			u.Path = "/elsewhere"
			r.URL = &u
			r.Header = http.Header{"X-New": {"1"}}
		}, outside: after(func(_ http.ResponseWriter, r *http.Request, p *probe) { p.note("after: %q", r.Header.Get("X-New")) })},
		{name: "request copied inside", inside: func(next http.Handler, _ *probe) http.Handler {
			type key struct{}
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "v")))
			})
		}, handle: func(_ http.ResponseWriter, r *http.Request, p *probe) { p.note("%q", r.FormValue("a")) }},
		{name: "route", in: "ServeMux", ask: func(c *client) { c.get("/items/7/a/b?x=1") }, handle: func(w http.ResponseWriter, r *http.Request, _ *probe) {
			_, _ = fmt.Fprint(w, r.Pattern, r.PathValue("id"), r.PathValue("rest"))
		}},
		{name: "path value set inside", in: "ServeMux", ask: func(c *client) { c.get("/items/7/a/b") }, handle: func(_ http.ResponseWriter, r *http.Request, _ *probe) {
			r.SetPathValue("id", "8")
		}},
		{name: "route under another one", in: "ServeMux", ask: func(c *client) { c.get("/items/7/a") }, outside: func(next http.Handler, _ *probe) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/items/{other}/{rest...}", next)
			return mux
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			_, _ = fmt.Fprint(w, r.Pattern, r.PathValue("id"), r.PathValue("other"))
		}},
		{name: "route that is not there", in: "ServeMux", ask: func(c *client) { c.get("/folder"); c.get("/post/x") }, handle: func(w http.ResponseWriter, r *http.Request, _ *probe) { _, _ = fmt.Fprint(w, r.Pattern) }},
		{name: "prefix stripped inside", in: "net/http", ask: func(c *client) { c.get("/folder/a") }, inside: func(next http.Handler, _ *probe) http.Handler {
			return http.StripPrefix("/folder", next)
		}, handle: func(w http.ResponseWriter, r *http.Request, _ *probe) { _, _ = io.WriteString(w, r.URL.Path) }},
		{name: "context", server: func(s *http.Server) {
			type key string
			s.BaseContext = func(net.Listener) context.Context { return context.WithValue(context.Background(), key("base"), 1) }
			s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, key("conn"), ctx.Value(key("base")))
			}
			h := s.Handler
			s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Context", fmt.Sprint(r.Context().Value(key("conn"))))
				h.ServeHTTP(w, r)
			})
		}, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
			addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			p.note("%v, %v, %v", srv != nil, addr != nil, r.Context().Err())
		}},
		{name: "work that outlives the handler", handle: func(_ http.ResponseWriter, r *http.Request, p *probe) {
			ctx := r.Context()
			go func() {
				p.wait() // for the middleware outside, which waits for this
				p.note("while the request lasts: %v", ctx.Err())
				p.step <- struct{}{}
			}()
		}, outside: after(func(_ http.ResponseWriter, _ *http.Request, p *probe) {
			p.step <- struct{}{}
			p.wait()
		})},
		{name: "proxy", in: "net/http", ask: func(c *client) { c.do(c.request("POST", "/post", strings.NewReader("body"))) }, handle: func(w http.ResponseWriter, r *http.Request, p *probe) {
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</a.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Trailer", "X-Sum")
				w.Header().Set("Set-Cookie", "a=1")
				_, _ = io.Copy(w, r.Body)
				w.Header().Set("X-Sum", "1")
			}))
			defer backend.Close()
			to, _ := url.Parse(backend.URL)
			(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, FlushInterval: -1}).ServeHTTP(w, r)
		}},
		{name: "HTTP/1.0", only: "1", ask: func(c *client) { c.raw("GET / HTTP/1.0\r\n\r\n") }, handle: func(w http.ResponseWriter, _ *http.Request, _ *probe) {
			_, _ = io.WriteString(w, "page")
			w.(http.Flusher).Flush()
		}},
	}
}

// after is middleware that acts after the handlers have returned.
func after(f func(w http.ResponseWriter, r *http.Request, p *probe)) middleware {
	return func(next http.Handler, p *probe) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			f(w, r, p)
		})
	}
}

func posting(n int) func(c *client) {
	return func(c *client) { c.do(c.request("POST", "/post", strings.NewReader(strings.Repeat("x", n)))) }
}

func uploading(n int) func(c *client) {
	return func(c *client) {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		_ = w.WriteField("field", "value")
		f, _ := w.CreateFormFile("file", "a.txt")
		_, _ = f.Write(bytes.Repeat([]byte("x"), n))
		_ = w.Close()
		r := c.request("POST", "/post", &body)
		r.Header.Set("Content-Type", w.FormDataContentType())
		c.do(r)
	}
}

func trailing(announced bool) func(c *client) {
	return func(c *client) {
		if !announced {
			c.raw("POST /post HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 7\r\n\r\n")
			return
		}
		r := c.request("POST", "/post", struct{ io.Reader }{strings.NewReader("body")})
		r.Trailer = http.Header{"X-Sum": {"7"}}
		c.do(r)
	}
}

func readTrailers(_ http.ResponseWriter, r *http.Request, p *probe) {
	body, err := io.ReadAll(r.Body)
	p.note("%q, %v, trailers %v", body, err, len(r.Trailer))
	p.note("sum %q", r.Trailer.Get("X-Sum"))
}

// expecting sends the body when the server asks for it.
func expecting(c *client) {
	conn, err := net.Dial("tcp", c.srv.Listener.Addr().String())
	if err != nil {
		c.p.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "POST /post HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	first := make([]byte, len("HTTP/1.1 100"))
	_, err = io.ReadFull(conn, first)
	c.note("first %q, %v", first, err)
	if strings.HasSuffix(string(first), "100") {
		_, _ = io.WriteString(conn, "body")
	}
	c.lines(conn)
}
