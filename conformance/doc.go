// Package conformance tests implementations of [session.Backend],
// [session.LockingBackend], [admin.Sweeper], [session.Locker] and [session.Codec]
// against their contracts, the comments in package session.
//
// For a backend of one's own, this is the whole test:
//
//	func TestConformance(t *testing.T) {
//		conformance.TestBackend(t, conformance.Backend{
//			New: func(t testing.TB) session.Backend {
//				b, err := mystore.Open(t.TempDir())
//				if err != nil {
//					t.Fatal(err)
//				}
//				return b
//			},
//		})
//	}
//
// A test of a locker looks the same, with [TestLocker].
//
// Each rule of the contract is a subtest with a name, such as SaveStale. One
// that fails prints the sentence of the contract that does not hold. Rules are
// made not to overlap: one fault fails one rule, where that is possible, and
// some that look for much at once beside it. A rule that has to be left out, as
// a race means nothing where one call after the other fails already, says so;
// if no other rule fails, that is a failure of its own. Run them with -race;
// some rules rely on it.
//
// Four rules run at a time, each with a backend of its own from New, and
// besides them those that wait for a deadline or a lease to pass. Most of these
// share one backend, with some dozens of calls under way at once when they
// begin; those that make a store fail, or keep requests back, have their own.
// So there are up to 10 backends in use, and twice as many with Reopen. A
// database that allows a number of connections in all has to be shared out: with
// 97 of them, a pool of 4 in each. With Advance, nothing waits, and there are 4.
//
// A call that has not returned after 15 seconds hangs. It ends the run, with
// its name.
//
// Some of the contract cannot be tested from outside, and is up to the tests
// of the backend. That a retry inside it after a lost response is not reported
// as a conflict, nor as the lock of another holder: that needs a proxy which
// drops the response to a request that was carried out; without Hold, neither
// is what a request does that arrives late (the rules whose names begin with
// Late). That a sweep leaves
// alone what the backend did not write, keeps to its budget and goes on from a
// page that failed: only the backend knows the store. A Sweeper whose Load
// hides expired records is measured by its own reports.
//
// The package uses the standard library only.
package conformance
