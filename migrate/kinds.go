package migrate

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/seed-a7bee19b/session"
)

// kind says what a record in one of the stores is.
type kind int

const (
	absent kind = iota
	plain       // a record of the Manager
	copied      // a copy in the new store, good if the old store has a note that names its version
	moved       // a note in the old store
	claim       // what Hold leaves in the new store before it creates in the old one
	tomb        // what a logout leaves, for a source without notes
)

// The data of a record that is not plain begins with magic, which no codec of this
// module writes, and is text if the data of the session is.
const magic = "session/migrate "

var (
	claimData = []byte(magic + "claim\n")
	tombData  = []byte(magic + "tomb\n")
)

// found is a record as it was read from one of the stores.
type found struct {
	session.Record
	kind kind
	// ref is the version of the old record that was copied, or that of the copy
	// which a note names.
	ref session.Version
}

func copyData(of session.Version, data []byte) []byte {
	return append([]byte(magic+"copy "+base64.RawStdEncoding.EncodeToString([]byte(of))+"\n"), data...)
}

func movedData(to session.Version) []byte {
	return []byte(magic + "moved " + base64.RawStdEncoding.EncodeToString([]byte(to)) + "\n")
}

var errForeign = errors.New("migrate: a record of a later version of package migrate")

// read says what rec is. The data of a copy is that of the session.
func read(rec session.Record) (found, error) {
	rest, special := bytes.CutPrefix(rec.Data, []byte(magic))
	if !special {
		return found{Record: rec, kind: plain}, nil
	}
	line, data, ok := bytes.Cut(rest, []byte("\n"))
	word, arg, _ := bytes.Cut(line, []byte(" "))
	ref, err := base64.RawStdEncoding.DecodeString(string(arg))
	if !ok || err != nil {
		return found{}, errForeign
	}
	f := found{Record: rec, ref: session.Version(ref)}
	switch string(word) {
	case "claim":
		f.kind = claim
	case "tomb":
		f.kind = tomb
	case "moved":
		f.kind = moved
	case "copy":
		f.kind, f.Data = copied, data
	default:
		return found{}, errForeign
	}
	return f, nil
}

// refuse keeps a Manager from writing what would be taken for a record of ours.
func refuse(rec session.Record) error {
	if bytes.HasPrefix(rec.Data, []byte(magic)) {
		return fmt.Errorf("migrate: %w: the data begins as the records of package migrate do", session.ErrEncode)
	}
	return nil
}
