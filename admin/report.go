// Package admin has the work of an operator on a store of sessions: [Sweep]
// deletes expired sessions, and [List] shows what is in the store.
package admin

import "time"

// Report counts what a sweep or a list has done. The counts of a deletion,
// from Expired to Failed, are 0 after a list. After a Resume the counts are those
// of the whole sweep, and Elapsed is that of the last run. As JSON a Report has
// its counts and units, without Elapsed and Checkpoint.
type Report struct {
	// Scanned counts the records looked at. On a store with an index of
	// deadlines a sweep may look at expired records only.
	Scanned int64 `json:"scanned"`

	Expired int64 `json:"expired"` // past Expires and Grace, and to be deleted
	Deleted int64 `json:"deleted"` // of Expired: deleted, or with DryRun to be deleted
	Kept    int64 `json:"kept"`    // of Expired: locked, or renewed or deleted by others since the sweep found them
	Skipped int64 `json:"skipped"` // of Expired: left alone because of SkipBatch
	Failed  int64 `json:"failed"`  // of Expired: not deleted because of an error

	// Foreign counts the records that the backend did not write: those that a
	// list visited, or those that a sweep found expired and left alone.
	Foreign int64 `json:"foreign"`

	Retried int64 `json:"retried"` // requests sent again

	// ReadUnits and WriteUnits are the capacity units used. They are 0 if the
	// store does not count them.
	ReadUnits  float64 `json:"read_units"`
	WriteUnits float64 `json:"write_units"`

	Elapsed time.Duration `json:"-"`

	// Checkpoint says where an unfinished sweep stopped, for
	// [SweepOptions.Resume]. It is nil after a sweep that is complete, after a
	// list, and from a backend that cannot resume. A sweep that left out a page
	// is not complete. A Checkpoint contains keys of records: keep it as safe as
	// the keys.
	Checkpoint []byte `json:"-"`
}
