package dynamodb

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
)

// verdictTables is the part of docs/design.md that has the tables. It is kept
// here as well, since the package has to be tested without docs too.
const verdictTables = "testdata/verdicts.md"

// judged is a combination of inputs, as the cells that the table has for it.
type judged struct {
	cells   []string
	verdict verdict
	inputs  string // for error messages
}

// Each combination of inputs is in exactly one row of its table, with the
// verdict that the function gives.
func TestVerdicts(t *testing.T) {
	text, err := os.ReadFile(verdictTables)
	if err != nil {
		t.Fatal(err)
	}
	tables := parseTables(string(text))
	for _, tt := range []struct {
		title   string
		columns string
		count   int
		all     []judged
	}{
		{"A Save that creates", "Lost|Item|Lock", 1152 / 3, creates()},
		{"A Save that replaces or ends", "Save|Holder|Lost|Item|In the way", 1152 / 3 * 2, replacesOrEnds()},
		{"Acquire", "Item|Lock", 18, acquires()},
		{"Touch", "Item|Expires", 12, touches()},
		{"Extend", "Item", 6, extends()},
		{"Release", "Release|Lost|Item|Expires", 96, releases()},
		{"After a removal", "Call|Lost|Removal", 40, removals()},
	} {
		t.Run(tt.title, func(t *testing.T) {
			if len(tt.all) != tt.count {
				t.Errorf("%d combinations, want %d", len(tt.all), tt.count)
			}
			table := tables[tt.title]
			if len(table) == 0 {
				t.Fatalf("%s has no such table", verdictTables)
			}
			columns := append(strings.Split(tt.columns, "|"), "Verdict", "Why")
			if !slices.Equal(table[0], columns) {
				t.Fatalf("the columns are %q, want %q", table[0], columns)
			}
			checkRows(t, table[1:], tt.all)
		})
	}
}

func checkRows(t *testing.T, rows [][]string, all []judged) {
	t.Helper()
	for _, row := range rows {
		if len(row) != len(all[0].cells)+2 {
			t.Fatalf("row %q has %d cells, want %d", row, len(row), len(all[0].cells)+2)
		}
	}
	used := make([]bool, len(rows))
	seen := map[string]bool{} // column and value
	for _, j := range all {
		var found []int
		for i, row := range rows {
			if stands(row, j.cells) {
				found, used[i] = append(found, i), true
			}
		}
		for i, cell := range j.cells {
			seen[fmt.Sprint(i, cell)] = true
		}
		switch {
		case len(found) == 0:
			t.Errorf("no row stands for %q: %s", j.cells, j.inputs)
		case len(found) > 1:
			t.Errorf("%d rows stand for %q: %s", len(found), j.cells, j.inputs)
		default:
			row := rows[found[0]]
			if got, want := verdictNames[j.verdict], row[len(j.cells)]; got != want {
				t.Errorf("%q is %q, and the table says %q: %s", j.cells, got, want, j.inputs)
			}
		}
	}
	for i, row := range rows {
		if !used[i] {
			t.Errorf("row %q stands for nothing", row)
		}
		for c, cell := range row[:len(row)-2] {
			for _, value := range values(cell) {
				if !seen[fmt.Sprint(c, value)] {
					t.Errorf("row %q: nothing is %q", row, value)
				}
			}
		}
	}
}

// stands reports whether a row stands for a combination.
func stands(row, cells []string) bool {
	for i, cell := range cells {
		if row[i] != "" && !slices.Contains(values(row[i]), cell) {
			return false
		}
	}
	return true
}

func values(cell string) []string {
	if cell == "" {
		return nil
	}
	return strings.Split(cell, ", ")
}

// parseTables returns the tables that follow headings of the fourth level,
// without the lines between their heads and their rows.
func parseTables(text string) map[string][][]string {
	tables, title := map[string][][]string{}, ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "#### "); ok {
			title = heading
		}
		if title == "" || !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		tables[title] = append(tables[title], cells)
	}
	return tables
}

var verdictNames = map[verdict]string{
	verdictSuccess:   "success",
	verdictGone:      "gone",
	verdictConflict:  "conflict",
	verdictUnseen:    "unseen",
	verdictLocked:    "locked",
	verdictWasLocked: "was locked",
	verdictNotFound:  "not found",
	verdictUnknown:   "unknown",
	verdictError:     "error",
	verdictExpired:   "remove",
	verdictAgain:     "again",
}

var (
	either     = []bool{false, true}
	allRows    = []row{rowGone, rowUnreadable, rowThere}
	allTraces  = []trace{traceOurs, traceSame, traceNewer, traceForgotten}
	allLocks   = []lockState{lockFree, lockOwn, lockOther}
	allRemoval = []removal{removalDone, removalGone, removalChanged, removalUnreadable, removalFailed}
)

// saves calls visit with every Save of kind.
func saves(kind saveKind, visit func(refusedSave)) {
	for i := range 1 << 5 {
		bit := func(n int) bool { return i>>n&1 == 1 }
		for _, r := range allRows {
			for _, tr := range allTraces {
				visit(refusedSave{
					kind: kind, row: r, trace: tr,
					holder: bit(0), lost: bit(1), barred: bit(2), expired: bit(3), later: bit(4),
				})
			}
		}
	}
}

func creates() (all []judged) {
	saves(saveCreates, func(s refusedSave) {
		item := "other"
		switch {
		case s.row != rowThere:
			item = rowName(s.row)
		case s.trace == traceOurs:
			item = "ours"
		}
		all = append(all, judged{[]string{yes(s.lost), item, choose(s.barred, "locked", "free")}, s.verdict(), fmt.Sprintf("%+v", s)})
	})
	return all
}

func replacesOrEnds() (all []judged) {
	for _, kind := range []saveKind{saveReplaces, saveEnds} {
		saves(kind, func(s refusedSave) {
			item := "newer"
			switch {
			case s.row != rowThere:
				item = rowName(s.row)
			case s.trace == traceOurs:
				item = "ours"
			case s.expired && s.kind == saveReplaces:
				item = "expired"
			case s.trace == traceSame:
				item = "same"
			case s.trace == traceForgotten && s.lost:
				item = "forgotten"
			}
			way := choose(s.later, "Expires", "nothing")
			if s.barred {
				way = "lock"
			}
			all = append(all, judged{
				[]string{choose(s.kind == saveEnds, "ends", "replaces"), yes(s.holder), yes(s.lost), item, way}, s.verdict(), fmt.Sprintf("%+v", s),
			})
		})
	}
	return all
}

func acquires() (all []judged) {
	for _, r := range allRows {
		for _, expired := range either {
			for _, l := range allLocks {
				a := refusedAcquire{row: r, expired: expired, lock: l}
				lock := map[lockState]string{lockFree: "free", lockOwn: "own", lockOther: "other"}[l]
				all = append(all, judged{[]string{itemName(r, expired), lock}, a.verdict(), fmt.Sprintf("%+v", a)})
			}
		}
	}
	return all
}

func touches() (all []judged) {
	for _, r := range allRows {
		for _, expired := range either {
			for _, late := range either {
				x := refusedTouch{row: r, expired: expired, late: late}
				all = append(all, judged{[]string{itemName(r, expired), choose(late, "late", "earlier")}, x.verdict(), fmt.Sprintf("%+v", x)})
			}
		}
	}
	return all
}

func extends() (all []judged) {
	for _, r := range allRows {
		for _, expired := range either {
			e := refusedExtend{row: r, expired: expired}
			all = append(all, judged{[]string{itemName(r, expired)}, e.verdict(), fmt.Sprintf("%+v", e)})
		}
	}
	return all
}

func releases() (all []judged) {
	for i := range 1 << 5 {
		bit := func(n int) bool { return i>>n&1 == 1 }
		for _, row := range allRows {
			r := refusedRelease{row: row, moves: bit(0), lost: bit(1), expired: bit(2), own: bit(3), unmoved: bit(4)}
			item := itemName(r.row, r.expired)
			if item == "live" {
				item = choose(r.own, "own", "freed")
			}
			all = append(all, judged{
				[]string{choose(r.moves, "moves", "frees"), yes(r.lost), item, choose(r.unmoved, "not moved", "moved")}, r.verdict(), fmt.Sprintf("%+v", r),
			})
		}
	}
	return all
}

func removals() (all []judged) {
	names := map[removal]string{
		removalDone: "done", removalGone: "gone", removalChanged: "changed", removalUnreadable: "unreadable", removalFailed: "failed",
	}
	for _, r := range allRemoval {
		for _, lost := range either {
			for call, v := range map[string]verdict{
				"Save": r.ofSave(lost), "Acquire": r.ofLook(), "Touch": r.ofLook(), "Release": r.ofRelease(),
			} {
				all = append(all, judged{[]string{call, yes(lost), names[r]}, v, ""})
			}
		}
	}
	return all
}

func yes(is bool) string { return choose(is, "yes", "no") }

func choose(is bool, then, otherwise string) string {
	if is {
		return then
	}
	return otherwise
}

func rowName(r row) string {
	return map[row]string{rowGone: "gone", rowUnreadable: "unreadable", rowThere: "live"}[r]
}

func itemName(r row, expired bool) string {
	if r == rowThere && expired {
		return "expired"
	}
	return rowName(r)
}

// The tables that are tested are those in docs/design.md.
func TestVerdictsInDesign(t *testing.T) {
	design, err := os.ReadFile("../../docs/design.md")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the docs are not there") // the package was copied without them
	}
	if err != nil {
		t.Fatal(err)
	}
	tables, err := os.ReadFile(verdictTables)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(design, tables) {
		t.Errorf("docs/design.md does not contain %s as it is: copy it there, from its first heading to its last line", verdictTables)
	}
}

// What a history tells about a Save.
func TestLook(t *testing.T) {
	tokensOf := func(letters string) history {
		var h history
		for _, l := range letters {
			h += history(strings.Repeat(string(l), tokenSize))
		}
		return h
	}
	const full = "abcdefghijklmnop" // 16 tokens
	for _, tt := range []struct {
		old, found string
		want       trace
	}{
		{"y", "y", traceSame},
		{"yz", "yz", traceSame},
		{full, full, traceSame},
		{"yz", "xyz", traceOurs},
		{"y", "abcdefghijklmnox", traceOurs},
		{"y", "x", traceOurs},
		{"yz", "ayz", traceNewer},
		{"y", "abcdefghijklmnoy", traceNewer},
		{"y", "abcdefghijklmno", traceNewer}, // made anew: it has all tokens since
		{"y", "a", traceNewer},
		{"y", full, traceForgotten},
		{"yz", "abcdefghijklmnoz", traceForgotten},
		{"", "a", traceNewer},
		{"", "x", traceOurs},
		{"", full, traceForgotten},
	} {
		if got := tokensOf(tt.found).look(string(tokensOf("x")), tokensOf(tt.old)); got != tt.want {
			t.Errorf("%q over %q: %d, want %d", tt.found, tt.old, got, tt.want)
		}
	}
}

// What a Save looks at, as it comes from the record that refused it.
func TestRefusedSave(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	const (
		old   = history("12345678")
		token = "abcdefgh"
	)
	found := func(h history, expires time.Duration, l lock) stored {
		return stored{rec: session.Record{Version: session.Version(h), Expires: at.Add(expires)}, lock: l}
	}
	until := func(id string, d time.Duration) lock { return lock{id: id, until: at.Add(d).UnixMilli()} }
	plain := save{kind: saveReplaces, old: base{history: old}, token: token, expires: at.Add(time.Hour).Unix()}
	holds, keeps, ends := plain, plain, plain
	holds.holder, keeps.keeps, ends.kind = "mine", true, saveEnds
	for _, tt := range []struct {
		name  string
		save  save
		lost  error
		found stored
		want  refusedSave
	}{
		{"same", plain, nil, found(old, time.Hour, lock{}), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame}},
		{"lost", plain, errReset, found(token+old, time.Hour, lock{}), refusedSave{kind: saveReplaces, lost: true, row: rowThere, trace: traceOurs}},
		{"ends", ends, nil, found("87654321", time.Hour, lock{}), refusedSave{kind: saveEnds, row: rowThere, trace: traceNewer}},
		{"gone", plain, nil, stored{err: session.ErrNotFound}, refusedSave{kind: saveReplaces, row: rowGone, trace: traceNewer}},
		{"unreadable", plain, nil, stored{err: errReset}, refusedSave{kind: saveReplaces, row: rowUnreadable, trace: traceNewer}},
		{"expires now", plain, nil, found(old, 0, lock{}), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame, expired: true}},
		{"expires in a second", plain, nil, found(old, time.Second, lock{}), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame}},
		{"later", keeps, nil, found(old, time.Hour+time.Second, lock{}), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame, later: true}},
		{"as late", keeps, nil, found(old, time.Hour, lock{}), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame}},
		{"later, and it does not keep", plain, nil, found(old, 2*time.Hour, lock{}), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame}},
		{"locked", plain, nil, found(old, time.Hour, until("other", time.Millisecond)), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame, barred: true}},
		{"lapsed", plain, nil, found(old, time.Hour, until("other", 0)), refusedSave{kind: saveReplaces, row: rowThere, trace: traceSame}},
		{"held", holds, nil, found(old, time.Hour, until("mine", time.Hour)), refusedSave{kind: saveReplaces, holder: true, row: rowThere, trace: traceSame}},
		{"held, lapsed", holds, nil, found(old, time.Hour, until("mine", 0)), refusedSave{kind: saveReplaces, holder: true, row: rowThere, trace: traceSame}},
		{"taken over", holds, nil, found(old, time.Hour, until("other", 0)), refusedSave{kind: saveReplaces, holder: true, row: rowThere, trace: traceSame, barred: true}},
		{"freed", holds, nil, found(old, time.Hour, lock{}), refusedSave{kind: saveReplaces, holder: true, row: rowThere, trace: traceSame, barred: true}},
	} {
		if got := tt.save.refused(&refusal{at: at, unsure: tt.lost}, tt.found); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestRemovalOf(t *testing.T) {
	for r, want := range map[row]removal{rowGone: removalGone, rowUnreadable: removalUnreadable, rowThere: removalChanged} {
		if got := removalOf(r); got != want {
			t.Errorf("%s: %d, want %d", rowName(r), got, want)
		}
	}
}
