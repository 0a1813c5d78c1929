package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// escape writes the characters of s that control a terminal, or are invisible on
// it, as JSON would: control characters, line ends, characters that change the
// direction of a text, and characters without width. In JSON the result means
// the same as s.
func escape(s string) string { return escapeBut(s, "") }

// escapeBut leaves the characters in keep.
func escapeBut(s, keep string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !visible(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1: // no UTF-8
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case visible(r) || strings.ContainsRune(keep, r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		}
		s = s[n:]
	}
	return b.String()
}

// visible reports whether r is something to see.
func visible(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// harmless is a value that is formatted as ever, and then escaped.
type harmless struct{ v any }

// Format serves every verb.
func (h harmless) Format(f fmt.State, verb rune) {
	v := h.v
	if err, ok := v.(error); ok { // several errors are put together with line ends
		v = oneLine(err.Error())
	}
	_, _ = io.WriteString(f, escape(fmt.Sprintf(fmt.FormatString(f, verb), v)))
}

// oneLine joins the lines of a text.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "; ")
}
