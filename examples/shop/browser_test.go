package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
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

	"github.com/seed-a7bee19b/session/sessiontest"
)

// browserTimeout allows for slow and busy machines.
const browserTimeout = 3 * time.Minute

// chromium returns the path of a browser: the one that CHROME names, else one
// that is installed.
func chromium(t *testing.T) string {
	t.Helper()
	names := []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
	}
	if chrome := os.Getenv("CHROME"); chrome != "" {
		names = []string{chrome}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("this test needs Chromium or Chrome, and found none of %q: install one (Debian, Ubuntu: apt-get install chromium), or set CHROME to its path", names)
	return ""
}

// A tab is a tab of a browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// newBrowser returns the first tab of a new browser.
func newBrowser(t *testing.T) tab {
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
	return tab{t, ctx}
}

// another opens a tab of the same browser.
func (b tab) another() tab {
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	return tab{b.t, ctx}
}

// cookie returns the one cookie that the browser has.
func (b tab) cookie() string {
	b.t.Helper()
	jar, err := chromedp.CallBrowser(b.ctx, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil || len(jar.Cookies) != 1 {
		b.t.Fatalf("the browser does not have one cookie: %v", err)
	}
	return jar.Cookies[0].Value
}

// A step is an action of a visitor in a tab.
type step func(ctx context.Context) error

// see performs the steps, and returns the path and the text of the page.
func (b tab) see(steps ...step) (path, text string) {
	b.t.Helper()
	for _, do := range steps {
		if err := do(b.ctx); err != nil {
			b.t.Fatal(err)
		}
	}
	path, err := chromedp.Run(b.ctx, chromedp.Evaluate[string]("location.pathname"))
	if err == nil {
		text, err = chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return path, text
}

func act(actions ...chromedp.Action[chromedp.Void]) step {
	return func(ctx context.Context) error { return chromedp.Do(ctx, actions...) }
}

func visit(url string) step { return act(chromedp.Navigate(url)) }

// click clicks, and waits for the next page.
func click(selector string) step {
	return func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector)))
		return err
	}
}

func add(tea string) step { return click("#" + tea + " button") }

func logIn(name, password string) step {
	return func(ctx context.Context) error {
		err := chromedp.Do(ctx,
			chromedp.SetValue(chromedp.CSS("#name"), name),
			chromedp.SendKeys(chromedp.CSS("#password"), password))
		if err != nil {
			return err
		}
		return click("main button")(ctx)
	}
}

func TestBrowser(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		one := newBrowser(t)
		if path, _ := one.see(visit(shop)); path != "/login" {
			t.Fatalf("a stranger sees %s", path)
		}
		if path, text := one.see(logIn("Ada", demoPassword)); path != "/" || !strings.Contains(text, "first time") {
			t.Fatalf("after logging in: %s\n%s", path, text)
		}
		two := one.another()
		if _, text := two.see(visit(shop)); !strings.Contains(text, "2 times") {
			t.Errorf("the visit of the second tab was not counted:\n%s", text)
		}

		// Both tabs add a tea, and the store delays each Save until the other begins.
		s.meet()
		var tabs sync.WaitGroup
		for b, tea := range map[tab]string{one: "assam", two: "peony"} {
			tabs.Go(func() {
				if err := add(tea)(b.ctx); err != nil {
					t.Errorf("adding %s: %v", tea, err)
				}
			})
		}
		tabs.Wait()
		if s.conflicts.Load() == 0 {
			t.Error("the tabs did not save at once")
		}
		_, text := one.see(visit(shop + "/cart"))
		if !strings.Contains(text, "Assam Second Flush") || !strings.Contains(text, "White Peony") || !strings.Contains(text, "€26.00") {
			t.Errorf("the cart lacks something:\n%s", text)
		}
		if _, text := one.see(visit(shop)); !strings.Contains(text, "5 times") {
			t.Errorf("the pages after adding were not counted:\n%s", text)
		}

		jar, err := chromedp.CallBrowser(one.ctx, storage.GetCookies, storage.GetCookiesParams{})
		if err != nil {
			t.Fatal(err)
		}
		cookies := jar.Cookies
		if len(cookies) != 1 || !cookies[0].HTTPOnly || !cookies[0].Session || cookies[0].SameSite != network.CookieSameSiteLax {
			t.Fatalf("the browser has %d cookies, or one with wrong attributes", len(cookies))
		}

		if path, text := one.see(click(".top form button")); path != "/login" || !strings.Contains(text, "logged out") {
			t.Errorf("after logging out: %s\n%s", path, text)
		}
		for range 2 {
			if path, text := one.see(act(chromedp.NavigateBack())); path != "/login" || strings.Contains(text, "Ada") {
				t.Errorf("after going back: %s\n%s", path, text)
			}
		}
		if path, text := two.see(act(chromedp.Reload())); path != "/login" || strings.Contains(text, "Ada") {
			t.Errorf("the other tab shows %s\n%s", path, text)
		}
		if a := newVisitor(t, shop).with(cookies[0].Value).get("/cart"); a.path != "/login" {
			t.Errorf("the old cookie leads to %s", a.path)
		}
	})
}

// TestYourSessions has a member log in with three browsers, and end the sessions
// of the others from one.
func TestYourSessions(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		shop, _ := open(t, s)
		member := "Ada " + rand.Text()[:8] // who has no sessions from other tests
		browsers := []tab{newBrowser(t), newBrowser(t)}
		for _, b := range browsers {
			b.see(visit(shop), logIn(member, demoPassword))
		}
		phone := newVisitor(t, shop)
		phone.agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1"
		phone.login(member)
		one, two := browsers[0], browsers[1]
		_, text := one.see(visit(shop + "/account"))
		if strings.Count(text, "127.0.0.1") != 3 || !strings.Contains(text, "Safari on iPhone") || !strings.Contains(text, "Chrome on Linux this one") {
			t.Fatalf("the list of sessions is not right:\n%s", text)
		}
		// The latest comes first.
		_, text = one.see(click(".sessions li:nth-child(1) button"))
		if !strings.Contains(text, "That session has ended.") || strings.Contains(text, "iPhone") {
			t.Errorf("after ending the phone's:\n%s", text)
		}
		if p := phone.get("/"); p.path != "/login" {
			t.Errorf("the phone sees %s", p.path)
		}
		if path, text := two.see(visit(shop)); path != "/" || !strings.Contains(text, "Ada") {
			t.Errorf("the other browser sees %s\n%s", path, text)
		}
		_, text = one.see(click(".sessions > form button"))
		if !strings.Contains(text, "All your other sessions have ended.") || strings.Count(text, "127.0.0.1") != 1 {
			t.Errorf("after ending all others:\n%s", text)
		}
		if path, text := two.see(act(chromedp.Reload())); path != "/login" || strings.Contains(text, "Ada") {
			t.Errorf("the other browser sees %s\n%s", path, text)
		}
		if path, _ := one.see(visit(shop)); path != "/" {
			t.Errorf("the browser itself sees %s", path)
		}
		if path, _ := one.see(visit(shop+"/account"), click(".sessions li button")); path != "/login" {
			t.Errorf("after ending its own it sees %s", path)
		}
	})
}

// TestPasswordAgain has a member end the other sessions when the login was a while ago.
func TestPasswordAgain(t *testing.T) {
	var aging sessiontest.Store
	shop, _ := open(t, &aging)
	one := newBrowser(t)
	one.see(visit(shop), logIn("Ada", demoPassword))
	phone := newVisitor(t, shop)
	phone.login("Ada")
	aging.Advance(freshWithin)

	others := click(".sessions > form button")
	confirm := func(password string) step {
		return func(ctx context.Context) error {
			if err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS("#password"), password)); err != nil {
				return err
			}
			return click("main button")(ctx)
		}
	}
	if path, text := one.see(visit(shop+"/account"), others); path != "/confirm" || !strings.Contains(text, "a while ago") {
		t.Fatalf("the member is led to %s\n%s", path, text)
	}
	if path, text := one.see(confirm("coffee")); path != "/confirm" || !strings.Contains(text, "not the password") {
		t.Fatalf("after a wrong password: %s\n%s", path, text)
	}
	if p := phone.get("/"); p.path != "/" {
		t.Errorf("the phone sees %s", p.path)
	}
	before := one.cookie()
	if path, text := one.see(confirm(demoPassword)); path != "/account" || !strings.Contains(text, "Thank you") {
		t.Fatalf("after the password: %s\n%s", path, text)
	}
	if one.cookie() == before {
		t.Error("the ID is the same")
	}
	if _, text := one.see(others); !strings.Contains(text, "All your other sessions have ended.") {
		t.Errorf("after ending all others:\n%s", text)
	}
	if p := phone.get("/"); p.path != "/login" {
		t.Errorf("the phone sees %s", p.path)
	}
	stranger := newVisitor(t, shop)
	if a := stranger.do("POST", "/account/others", url.Values{}); a.path != "/login" {
		t.Errorf("a stranger is led to %s", a.path)
	}
}

// ended waits until the page shows that its session has ended.
func ended() step { return act(chromedp.WaitVisible(chromedp.CSS("main .ended"))) }

// TestStreams has pages open in two browsers, of which one logs out, ends the other's
// session, or logs in as somebody else. The pages of the second are those of another
// process.
func TestStreams(t *testing.T) {
	forEachStore(t, func(t *testing.T, s *store) {
		here, _ := open(t, s)
		there, _ := open(t, s)
		member := "Ada " + rand.Text()[:8] // who has no sessions from other tests
		one, two := newBrowser(t), newBrowser(t)

		// Both have the same cookie.
		one.see(visit(here), logIn(member, demoPassword))
		share := func() {
			t.Helper()
			c := network.SetCookieParams{Name: "session", Value: one.cookie(), URL: there}
			if _, err := chromedp.Call(two.ctx, network.SetCookie, c); err != nil {
				t.Fatal(err)
			}
		}
		share()
		beside := one.another()
		for b, shop := range map[tab]string{two: there, beside: here} {
			if path, text := b.see(visit(shop + "/cart")); path != "/cart" || !strings.Contains(text, member) {
				t.Fatalf("with the cookie: %s\n%s", path, text)
			}
		}
		one.see(visit(here), click(".top form button"))
		for _, b := range []tab{two, beside} {
			if _, text := b.see(ended()); strings.Contains(text, member) || strings.Contains(text, "cart") || !strings.Contains(text, "Your session has ended") {
				t.Errorf("after a logout in the other browser:\n%s", text)
			}
			if path, _ := b.see(click("main .ended a")); path != "/login" {
				t.Errorf("the link leads to %s", path)
			}
		}

		// Each has a session of its own.
		one.see(logIn(member, demoPassword))
		two.see(logIn(member, demoPassword))
		one.see(visit(here+"/account"), click(".sessions > form button"))
		two.see(ended())
		if path, text := one.see(); path != "/account" || !strings.Contains(text, member) {
			t.Errorf("the browser itself shows %s\n%s", path, text)
		}

		// Another member logs in with the same browser.
		beside.see(visit(here))
		share()
		two.see(visit(there))
		newVisitor(t, here).with(one.cookie()).login("Bob")
		beside.see(ended())
		two.see(ended())
	})
}

// TestLook checks that every page fits on a phone, that every field has a label,
// and that text is readable, in light and dark mode. It writes screenshots to the
// folder SHOP_SCREENSHOTS, if that is set.
func TestLook(t *testing.T) {
	var aging sessiontest.Store
	s := &store{Backend: &aging}
	shop, _ := open(t, s)
	b := newBrowser(t)
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
				if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
					t.Fatal(err)
				}
				b.see(act(chromedp.EmulateViewport(width, 800)))
				if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("scrollTo(0, 0), true")); err != nil {
					t.Fatal(err)
				}
				faults, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](faultsJS))
				if err != nil {
					t.Fatal(err)
				}
				picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
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
	b.see(visit(shop + "/login"))
	look("login")
	b.see(logIn("Ada", "coffee"))
	look("login-wrong")
	b.see(logIn(strings.Repeat("Wilhelmina", 4), demoPassword))
	look("catalogue-long-name")
	b.see(click(".top form button"), logIn("Ada Lovelace", demoPassword))
	look("catalogue")
	b.see(visit(shop + "/cart"))
	look("cart-empty")
	b.see(visit(shop), add("assam"), add("assam"), add("oolong"))
	look("catalogue-added")
	b.see(add("darjeeling"), visit(shop+"/cart"))
	look("cart")
	b.see(visit(shop + "/account"))
	look("account")
	aging.Advance(freshWithin)
	b.see(click(".sessions > form button"))
	look("confirm")
	newVisitor(t, shop).with(b.cookie()).do("POST", "/logout", url.Values{})
	b.see(ended())
	look("ended")
	b.see(visit(shop+"/login"), logIn("Ada", demoPassword))
	s.down.Store(true)
	b.see(visit(shop + "/cart"))
	look("down")
}

// faultsJS lists the faults of a page: its width, fields without a
// label, buttons without a name, landmarks, and a contrast below 4.5.
const faultsJS = `(() => {
	const faults = [];
	if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window: " + document.documentElement.scrollWidth);
	for (const e of document.querySelectorAll("main *")) for (let box = e.parentElement; box.id != "main"; box = box.parentElement)
		if (!e.closest(".hidden, svg") && e.getBoundingClientRect().right > box.getBoundingClientRect().right + 1) faults.push("sticks out: " + e.textContent.trim());
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
