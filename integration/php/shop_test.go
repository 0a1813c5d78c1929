package php

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"
)

// browserTimeout allows for slow and busy machines.
const browserTimeout = 3 * time.Minute

// newBrowser returns the context of a tab of a new browser: the one that CHROME
// names, or chromium.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	chrome := os.Getenv("CHROME")
	if chrome == "" {
		chrome = "chromium"
	}
	if _, err := exec.LookPath(chrome); err != nil {
		t.Fatalf("this test needs Chromium or Chrome: install one, or set CHROME to its path: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserTimeout)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(chrome), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-sync", true),
		// A click while the page still scrolls smoothly misses what it aims at.
		chromedp.Flag("force-prefers-reduced-motion", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.WSURLReadTimeout(browserTimeout),
	)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// serve runs a server until the test ends, and returns the first match of ready in
// what it prints.
func serve(t *testing.T, cmd *exec.Cmd, ready *regexp.Regexp) string {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		t.Fatal(err)
	}
	found, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := ready.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[len(m)-1]:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
		<-done
		_ = out.Close()
	})
	select {
	case s := <-found:
		return s
	case <-done:
		t.Fatalf("%s ended before it was ready", filepath.Base(cmd.Path))
	case <-time.After(browserTimeout):
		t.Fatalf("%s did not become ready", filepath.Base(cmd.Path))
	}
	return ""
}

// TestShop has one browser use the shop, with a page in PHP and the others in Go: it
// logs in on a page of Go's, both change the cart in turn, and it logs out.
func TestShop(t *testing.T) {
	t.Parallel()
	table := newTable(t)
	program := filepath.Join(t.TempDir(), "shop")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./shop")
	build.Dir = filepath.Join("..", "..", "examples")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	standin, err := filepath.Abs(filepath.Join("testdata", "standin", "autoload.php"))
	if err != nil {
		t.Fatal(err)
	}
	pages := exec.Command(interpreter, "-d", "session.serialize_handler=php", "-d", "session.name=PHPSESSID",
		"-S", freeAddress(t), "-t", filepath.Join("..", "..", "examples", "shop"))
	pages.Env = append(os.Environ(), "SHOP_AUTOLOAD="+standin, "SHOP_ENDPOINT="+local.Endpoint, "SHOP_TABLE="+table)
	php := serve(t, pages, regexp.MustCompile(`\((http://127\.0\.0\.1:\d+)\) started`))
	shop := serve(t, exec.Command(program, "-addr", "127.0.0.1:0", "-endpoint", local.Endpoint, "-table", table, "-php", php),
		regexp.MustCompile(`The shop is open: (http://\S+)`))

	browser := newBrowser(t)
	// see performs the actions, and returns the path and the text of the page.
	see := func(actions ...func() error) (path, text string) {
		t.Helper()
		for _, act := range actions {
			if err := act(); err != nil {
				t.Fatal(err)
			}
		}
		path, err := chromedp.Run(browser, chromedp.Evaluate[string]("location.pathname"))
		if err == nil {
			text, err = chromedp.Run(browser, chromedp.Evaluate[string]("document.body.innerText"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return path, text
	}
	visit := func(path string) func() error {
		return func() error { return chromedp.Do(browser, chromedp.Navigate(shop+path)) }
	}
	click := func(selector string) func() error {
		return func() error {
			_, err := chromedp.RunResponse(browser, chromedp.Click(chromedp.CSS(selector)))
			return err
		}
	}
	fill := func(id, text string) func() error {
		return func() error { return chromedp.Do(browser, chromedp.SendKeys(chromedp.CSS(id), text)) }
	}
	cookie := func() string {
		t.Helper()
		jar, err := chromedp.CallBrowser(browser, storage.GetCookies, storage.GetCookiesParams{})
		if err != nil || len(jar.Cookies) != 1 || jar.Cookies[0].Name != "PHPSESSID" {
			t.Fatalf("the browser does not have one cookie of PHP's name: %v", err)
		}
		return jar.Cookies[0].Value
	}
	quantity := func(tea, want string) {
		t.Helper()
		got, err := chromedp.Run(browser, chromedp.Evaluate[string](`document.querySelector("#`+tea+` .quantity").innerText`))
		if err != nil || strings.TrimSpace(got) != want {
			t.Fatalf("PHP shows %q of %s, want %s (error %v)", got, tea, want, err)
		}
	}

	if path, text := see(visit("/php/cart.php")); path != "/login" {
		t.Fatalf("PHP leads a stranger to %s\n%s", path, text)
	}
	if path, text := see(fill("#name", "Ada"), fill("#password", "tea"), click("main button")); path != "/" || !strings.Contains(text, "Ada") {
		t.Fatalf("after the login: %s\n%s", path, text)
	}
	id := cookie()

	see(click("#assam button")) // Go
	if path, text := see(visit("/php/cart.php")); path != "/php/cart.php" || !strings.Contains(text, "Ada") {
		t.Fatalf("PHP shows %s\n%s", path, text)
	}
	quantity("assam", "1")
	see(click("#assam [value=more]"), click("#peony [value=more]")) // PHP
	quantity("assam", "2")
	quantity("peony", "1")
	if _, text := see(visit("/cart")); !strings.Contains(text, "Assam Second Flush") || !strings.Contains(text, "White Peony") || !strings.Contains(text, "€35.80") {
		t.Fatalf("Go does not show the cart that PHP has changed:\n%s", text)
	}
	see(click(".lines li:first-child [value=fewer]")) // Go: one tin of Assam less
	see(visit("/php/cart.php"))
	quantity("assam", "1")
	see(click("#assam [value=fewer]")) // PHP
	if _, text := see(visit("/cart")); strings.Contains(text, "Assam") || !strings.Contains(text, "€16.20") {
		t.Fatalf("Go does not show the cart that PHP has changed:\n%s", text)
	}
	if cookie() != id {
		t.Error("the session has another ID than after the login")
	}

	if path, _ := see(click(".top form button")); path != "/login" { // Go
		t.Fatalf("the logout leads to %s", path)
	}
	if path, _ := see(visit("/php/cart.php")); path != "/login" {
		t.Errorf("after the logout PHP shows %s", path)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shop+"/php/cart.php", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: "PHPSESSID", Value: id})
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Location"); got != "/login" {
		t.Errorf("PHP answers the old cookie with %s and leads to %q, want /login", resp.Status, got)
	}
}

// freeAddress returns an address on which nobody listens now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
