package main

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// panel is one of the bar charts in a picture.
type panel struct {
	title string
	bars  []bar
}

type bar struct {
	label string
	value float64 // microseconds
	color string
}

// The colours also differ in brightness.
const (
	oursColor  = "#0b6e4f"
	otherColor = "#8fa3b8"
	bareColor  = "#dde3ea"
)

func bars(subjects []subject, speeds []Speed, w work) []bar {
	var out []bar
	for _, s := range subjects {
		for _, sp := range speeds {
			if sp.Subject != s.name || sp.Work != w || sp.Size != typical {
				continue
			}
			b := bar{s.name, sp.One.NS / 1e3, otherColor}
			switch {
			case s.ours:
				b.color = oursColor
			case s.bare:
				b.color = bareColor
			}
			out = append(out, b)
		}
	}
	return out
}

// chart draws the panels under each other as SVG. It has a background of its
// own, because pages may be light or dark.
func chart(w io.Writer, panels []panel) error {
	const (
		width, label, line = 760, 200, 22
		head, gap, right   = 34, 18, 90
	)
	height := gap
	for _, p := range panels {
		height += head + line*len(p.bars) + gap
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="6" fill="#ffffff"/>`+"\n", width, height)
	y := gap
	for _, p := range panels {
		fmt.Fprintf(&b, `<text x="16" y="%d" font-weight="600" fill="#1b2733">%s</text>`+"\n", y+16, html.EscapeString(p.title))
		y += head
		most := 0.0
		for _, br := range p.bars {
			most = max(most, br.value)
		}
		for _, br := range p.bars {
			length := 1.0
			if most > 0 {
				length = max(1, br.value/most*(width-label-right))
			}
			weight := ""
			if br.color == oursColor {
				weight = ` font-weight="600"`
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#1b2733"%s>%s</text>`, label-8, y+14, weight, html.EscapeString(br.label))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, label, y+2, length, line-6, br.color)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#1b2733"%s>%s µs</text>`+"\n", label+length+6, y+14, weight, figure(br.value))
			y += line
		}
		y += gap
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
