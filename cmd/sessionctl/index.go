package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
)

// dataOfKind is for a list that has to tell the kind of each record: it is in
// reservedPrefix, so in the data of all markers and of all records of the index, and
// it is in migrateMark.
const dataOfKind = "session"

// indexRecord is what a record of the index of owners holds: the sessions of an
// owner, or some of them.
type indexRecord struct {
	Entries     int `json:"entries"`
	Pages       int `json:"pages"`            // other records that it refers to
	InPages     int `json:"entries_in_pages"` // at most
	Revocations int `json:"revocations"`      // that have begun, and are not complete
}

var errIndexDamaged = errors.New("the record of the index does not decode")

// indexOf returns what data holds if it is that of a record of the index. Like
// movedTo it tries all codecs.
func indexOf(data string) (rec indexRecord, is bool, err error) {
	if !strings.Contains(data, ownerValue) {
		return rec, false, nil
	}
	for _, c := range allCodecs() {
		values, err := c.Split([]byte(data))
		if err != nil {
			continue
		}
		encoded, ok := values[ownerValue]
		if !ok {
			return rec, false, nil // it stands in a value
		}
		var text string
		if err := c.Unmarshal(encoded, &text); err != nil {
			return rec, true, errIndexDamaged
		}
		rec, err = parseIndex(text)
		return rec, true, err
	}
	return rec, false, nil
}

func parseIndex(text string) (rec indexRecord, err error) {
	var r struct {
		S []json.RawMessage
		P []struct{ N int }
		R []json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return rec, errIndexDamaged
	}
	rec = indexRecord{Entries: len(r.S), Pages: len(r.P), Revocations: len(r.R)}
	for _, p := range r.P {
		if p.N < 0 || p.N > 1e9 {
			return rec, errIndexDamaged
		}
		rec.InPages += p.N
	}
	return rec, nil
}

// isIndex reports whether e is a record of the index. The list has to ask for
// the data with dataOfKind.
func isIndex(e *admin.Entry) bool {
	_, is, _ := indexOf(e.Data)
	return is
}

// errIndex refuses to end a record of the index.
var errIndex = errors.New("this is a record of the index of owners, and no session")

// explainIndex is about records that are no sessions.
func explainIndex(err error) (what, todo string) {
	if !errors.Is(err, errIndex) {
		return "", ""
	}
	return "This is a record of the index of owners, and no session. Without it, nobody could find the sessions that it lists.",
		"To end these sessions, use --user or --owner."
}

// notIndex is an error if data is that of a record of the index.
func notIndex(data []byte) error {
	if _, is, _ := indexOf(string(data)); is {
		return errIndex
	}
	return nil
}

// listing is what a session says of where it is listed.
type listing struct {
	Handle string            `json:"h"`
	Owners []session.Owner   `json:"o"` // beside the user
	Note   map[string]string `json:"n"`
}

// listingOf returns the listing among the values of a session, one without a
// handle if there is none.
func listingOf(c session.Codec, values map[string][]byte) (listing, error) {
	var (
		ls   listing
		text string
	)
	data, ok := values[listedValue]
	if !ok {
		return ls, nil
	}
	if err := c.Unmarshal(data, &text); err != nil {
		return ls, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	if err := json.Unmarshal([]byte(text), &ls); err != nil {
		return listing{}, fmt.Errorf("%w: %w", session.ErrDecode, err)
	}
	return ls, nil
}
