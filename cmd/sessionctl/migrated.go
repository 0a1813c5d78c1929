package main

import (
	"bytes"
	"errors"

	"github.com/seed-a7bee19b/session/admin"
)

// migrateMark begins the data of the records that package migrate writes beside the
// sessions, while they move to another store.
const migrateMark = "session/migrate "

// migrated reports whether data is that of a record of package migrate. If it is a
// copy of a session that is on its way, copied has the data of the session.
func migrated(data []byte) (is bool, copied []byte) {
	rest, is := bytes.CutPrefix(data, []byte(migrateMark))
	if !is {
		return false, nil
	}
	line, session, ok := bytes.Cut(rest, []byte("\n"))
	if ok && bytes.HasPrefix(line, []byte("copy ")) {
		return true, session
	}
	return true, nil
}

// isMigrated reports whether e is a record of package migrate. The list has to ask
// for the data with dataOfKind.
func isMigrated(e *admin.Entry) bool {
	is, _ := migrated([]byte(e.Data))
	return is
}

// errMigrated keeps a record of package migrate: without it, a session that was
// logged out could come back from the other store.
var errMigrated = errors.New("this is a record of a move to another store, and no session")

// notMigrated is errMigrated if data is that of a record of package migrate which is
// not a copy of a session.
func notMigrated(data []byte) error {
	if is, copied := migrated(data); is && copied == nil {
		return errMigrated
	}
	return nil
}
