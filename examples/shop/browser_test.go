package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"github.com/seed-a7bee19b/session/backend/memory"
)

// browserTimeout is for machines that are slow and busy.
const browserTimeout = 3 * time.Minute

// chromium returns the path of a browser.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{
		os.Getenv("CHROME"),
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("this test needs Chromium or Chrome: install one (Debian and Ubuntu: apt-get install chromium), or set CHROME to its path")
	return ""
}

// newBrowser returns the context of the first tab of a new browser.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), browserTimeout)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(chromium(t)),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.WSURLReadTimeout(browserTimeout),
	)
	t.Cleanup(cancel)
	tab, cancel := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if err := chromedp.Cancel(tab); err != nil {
			t.Error(err)
		}
		cancel()
	})
	if err := chromedp.Do(tab); err != nil {
		t.Fatal(err)
	}
	return tab
}

// A step is something that a visitor does in a tab.
type step func(tab context.Context) error

// see takes the steps, and returns the path and the text of the page then.
func see(t *testing.T, tab context.Context, steps ...step) (path, text string) {
	t.Helper()
	for _, do := range steps {
		if err := do(tab); err != nil {
			t.Fatal(err)
		}
	}
	path, err := chromedp.Run(tab, chromedp.Evaluate[string]("location.pathname"))
	if err == nil {
		text, err = chromedp.Run(tab, chromedp.Evaluate[string]("document.body.innerText"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, text
}

func act(actions ...chromedp.Action[chromedp.Void]) step {
	return func(tab context.Context) error { return chromedp.Do(tab, actions...) }
}

func visit(url string) step { return act(chromedp.Navigate(url)) }

// click clicks, and waits for the page that this leads to.
func click(selector string) step {
	return func(tab context.Context) error {
		_, err := chromedp.RunResponse(tab, chromedp.Click(chromedp.CSS(selector)))
		return err
	}
}

func add(tea string) step { return click("#" + tea + " button") }

func logIn(name, password string) step {
	return func(tab context.Context) error {
		err := chromedp.Do(tab,
			chromedp.SetValue(chromedp.CSS("#name"), name),
			chromedp.SendKeys(chromedp.CSS("#password"), password))
		if err != nil {
			return err
		}
		return click("main button")(tab)
	}
}

func TestBrowser(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		one := newBrowser(t)
		if path, _ := see(t, one, visit(shop)); path != "/login" {
			t.Fatalf("a stranger sees %s", path)
		}
		if path, text := see(t, one, logIn("Ada", demoPassword)); path != "/" || !strings.Contains(text, "first time") {
			t.Fatalf("after logging in: %s\n%s", path, text)
		}
		two, cancel := chromedp.NewContext(one) // another tab of the same browser
		defer cancel()
		if _, text := see(t, two, visit(shop)); !strings.Contains(text, "2 times") {
			t.Errorf("the second tab does not count as a visit:\n%s", text)
		}

		// Both tabs add, and the store lets neither save before the other tries.
		s.meet()
		var tabs sync.WaitGroup
		for tab, tea := range map[context.Context]string{one: "assam", two: "peony"} {
			tabs.Add(1)
			go func() {
				defer tabs.Done()
				if err := add(tea)(tab); err != nil {
					t.Errorf("adding %s: %v", tea, err)
				}
			}()
		}
		tabs.Wait()
		if s.conflicts.Load() == 0 {
			t.Error("the tabs did not save at once")
		}
		_, text := see(t, one, visit(shop+"/cart"))
		if !strings.Contains(text, "Assam Second Flush") || !strings.Contains(text, "White Peony") || !strings.Contains(text, "€26.00") {
			t.Errorf("the cart lacks something:\n%s", text)
		}
		if _, text := see(t, one, visit(shop)); !strings.Contains(text, "5 times") {
			t.Errorf("the pages after adding were not counted:\n%s", text)
		}

		jar, err := chromedp.CallBrowser(one, storage.GetCookies, storage.GetCookiesParams{})
		if err != nil {
			t.Fatal(err)
		}
		cookies := jar.Cookies
		if len(cookies) != 1 || !cookies[0].HTTPOnly || !cookies[0].Session || cookies[0].SameSite != network.CookieSameSiteLax {
			t.Fatalf("the browser has %d cookies, or one with wrong attributes", len(cookies))
		}

		if path, text := see(t, one, click(".top form button")); path != "/login" || !strings.Contains(text, "logged out") {
			t.Errorf("after logging out: %s\n%s", path, text)
		}
		for range 2 {
			if path, text := see(t, one, act(chromedp.NavigateBack())); path != "/login" || strings.Contains(text, "Ada") {
				t.Errorf("after going back: %s\n%s", path, text)
			}
		}
		if path, text := see(t, two, act(chromedp.Reload())); path != "/login" || strings.Contains(text, "Ada") {
			t.Errorf("the other tab shows %s\n%s", path, text)
		}
		if a := newVisitor(t, shop).with(cookies[0].Value).get("/cart"); a.path != "/login" {
			t.Errorf("the old cookie leads to %s", a.path)
		}
	})
}

// TestLook checks that every page fits on a phone, that every field has a
// label, and that text can be read, in light and in dark. With
// SHOP_SCREENSHOTS it leaves pictures in that folder.
func TestLook(t *testing.T) {
	s := &store{Backend: &memory.Backend{}}
	shop, _ := open(t, s)
	tab := newBrowser(t)
	folder := os.Getenv("SHOP_SCREENSHOTS")
	if folder == "" {
		folder = t.TempDir()
	}
	look := func(name string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			for _, width := range []int64{360, 1280} {
				where := fmt.Sprintf("%s-%s-%d", name, scheme, width)
				media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: scheme},
					{Name: "prefers-reduced-motion", Value: "reduce"},
				}}
				if _, err := chromedp.Call(tab, emulation.SetEmulatedMedia, media); err != nil {
					t.Fatal(err)
				}
				see(t, tab, act(chromedp.EmulateViewport(width, 800)))
				faults, err := chromedp.Run(tab, chromedp.Evaluate[[]string](faultsJS))
				if err != nil {
					t.Fatal(err)
				}
				picture, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
				if err != nil {
					t.Fatal(err)
				}
				for _, fault := range faults {
					t.Errorf("%s: %s", where, fault)
				}
				if err := os.WriteFile(filepath.Join(folder, where+".png"), picture, 0o600); err != nil {
					t.Error(err)
				}
			}
		}
	}
	see(t, tab, visit(shop+"/login"))
	look("login")
	see(t, tab, logIn("Ada", "coffee"))
	look("login-wrong")
	see(t, tab, logIn("Wilhelmina Featherstonehaugh-Cholmondele", demoPassword))
	look("catalogue")
	see(t, tab, visit(shop+"/cart"))
	look("cart-empty")
	see(t, tab, visit(shop), add("assam"), add("assam"), add("oolong"))
	look("catalogue-added")
	see(t, tab, add("darjeeling"), visit(shop+"/cart"))
	look("cart")
	see(t, tab, visit(shop+"/account"))
	look("account")
	s.down.Store(true)
	see(t, tab, visit(shop+"/cart"))
	look("down")
}

// faultsJS lists what is wrong with a page: its width, fields without a
// label, buttons without a name, landmarks, and a contrast below 4.5.
const faultsJS = `(() => {
	const faults = [];
	if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window: " + document.documentElement.scrollWidth);
	for (const f of document.querySelectorAll("input:not([type=hidden])")) if (!f.labels.length) faults.push("no label: " + f.name);
	for (const b of document.querySelectorAll("button, a")) if (!(b.ariaLabel || b.textContent).trim()) faults.push("no name: " + b.outerHTML);
	for (const l of ["header", "main", "footer", "h1"]) if (document.querySelectorAll(l).length != 1) faults.push("not one " + l);
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgba = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); return canvas.getImageData(0, 0, 1, 1).data; };
	const light = c => { const [r, g, b] = [...rgba(c)].map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
	const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (rgba(c)[3] == 255) return c; } return "white"; };
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; n = texts.nextNode();) {
		if (!n.data.trim()) continue;
		const [a, b] = [light(getComputedStyle(n.parentElement).color), light(ground(n.parentElement))];
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < 4.5) faults.push("contrast " + ratio.toFixed(2) + ": " + n.data.trim());
	}
	return faults;
})()`
