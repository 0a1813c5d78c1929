package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-a7bee19b/session"
)

// textMutants are TextBackends with one fault each, and the rule that has to fail on
// it. All other rules about stored records have to pass.
var textMutants = []hookedMutant{
	{mutant{"is not set to text", "TextBackend"}, func(h *hooked) { h.text, h.save = false, h.sweeper.Save }},
	{mutant{"stores what is not text", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		return h.sweeper.Save(ctx, key, rec)
	})},
	{mutant{"mends what is not text", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		rec.Data = []byte(strings.ToValidUTF8(string(rec.Data), "?"))
		return h.sweeper.Save(ctx, key, rec)
	})},
	{mutant{"what is not text is another error", "TextRefuses"}, saving(func(*hooked, context.Context, string, session.Record) (session.Version, error) {
		return "", errors.New("model: not text")
	})},
	{mutant{"what is not text is a conflict", "TextRefuses"}, saving(func(*hooked, context.Context, string, session.Record) (session.Version, error) {
		return "", &session.ConflictError{}
	})},
	{mutant{"writes what is not text, then refuses", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		_, _ = h.sweeper.Save(ctx, key, rec)
		return "", session.ErrEncode
	})},
	{mutant{"what is not text moves the deadline", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		_ = h.lockingModel.Touch(ctx, key, rec.Expires)
		return "", session.ErrEncode
	})},
	{mutant{"what is not text deletes", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, _ session.Record) (session.Version, error) {
		_ = h.lockingModel.Delete(ctx, key)
		return "", session.ErrEncode
	})},
	{mutant{"only creating looks", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		if rec.Version != "" {
			return h.sweeper.Save(ctx, key, rec)
		}
		return "", session.ErrEncode
	})},
	{mutant{"surrogates are taken", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		if strings.Contains(string(rec.Data), "\xed\xa0") {
			return h.sweeper.Save(ctx, key, rec)
		}
		return "", session.ErrEncode
	})},
	{mutant{"looks at the first kilobyte", "TextRefuses"}, saving(func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error) {
		if len(rec.Data) > 1024 {
			return h.sweeper.Save(ctx, key, rec)
		}
		return "", session.ErrEncode
	})},
	{mutant{"what is not text ends the lock", "LockedTextRefuses"}, saving(func(h *hooked, _ context.Context, key string, _ session.Record) (session.Version, error) {
		h.looking(key, func(_ leased, is *leased) {
			if is != nil {
				is.token = ""
			}
		})
		return "", session.ErrEncode
	})},
	{mutant{"the replacement character is refused", "TextKeeps"}, func(h *hooked) {
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if strings.ContainsRune(string(rec.Data), utf8.RuneError) {
				return "", session.ErrEncode
			}
			return save(ctx, key, rec)
		}
	}},
	{mutant{"what is no character is cut", "TextKeeps"}, mendingText(func(s string) string {
		return strings.Map(func(r rune) rune {
			if r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
				return -1
			}
			return r
		}, s)
	})},
	{mutant{"the last plane is lost", "TextKeeps"}, mendingText(func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 0x100000 {
				return '?'
			}
			return r
		}, s)
	})},
	{mutant{"a zero byte alone is nothing", "TextKeeps"}, mendingText(func(s string) string {
		if s == "\x00" {
			return ""
		}
		return s
	})},
}

// saving makes save handle Data that is not text.
func saving(save func(h *hooked, ctx context.Context, key string, rec session.Record) (session.Version, error)) func(*hooked) {
	return func(h *hooked) {
		right := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if v, err := right(ctx, key, rec); !errors.Is(err, session.ErrEncode) {
				return v, err
			}
			return save(h, ctx, key, rec)
		}
	}
}

// mendingText changes Data that is text.
func mendingText(change func(string) string) func(*hooked) {
	return mending(func(s string) string {
		if !utf8.ValidString(s) {
			return s
		}
		return change(s)
	})
}

// textBackend returns a TextBackend whose only fault is fault.
func textBackend(fault func(h *hooked)) Backend {
	backend := hookedBackend(func(h *hooked) {
		h.text = true
		save := h.save
		h.save = func(ctx context.Context, key string, rec session.Record) (session.Version, error) {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			if !utf8.Valid(rec.Data) {
				return "", fmt.Errorf("model: %w", session.ErrEncode)
			}
			return save(ctx, key, rec)
		}
		if fault != nil {
			fault(h)
		}
	})
	backend.WantsText = true
	return backend
}

func TestTextMutants(t *testing.T) {
	t.Parallel()
	faults := map[string]func(*hooked){}
	for _, k := range textMutants {
		faults[k.bug] = k.fault
	}
	testMutants(t, mutantsOf(textMutants), func(t *testing.T, m mutant) map[string]string {
		backend := textBackend(faults[m.bug])
		rules := slices.Concat([]backendRule{wantsText}, textRules, lockedTextRules, dataRules, keyRules, versionRules, saveRules)
		if m.rule == wantsText.name {
			rules = rulesFor(backend, backend.New(t)) // without those about text
		}
		return failuresOf(t, rules, backend, m)
	})
}

// A backend that takes only text passes all rules.
func TestText(t *testing.T) {
	t.Parallel()
	TestBackend(t, textBackend(nil))
}
