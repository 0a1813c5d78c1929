// Package conformance tests implementations of [session.Backend],
// [session.LockingBackend], [session.TextBackend], [admin.Sweeper],
// [session.Locker], [session.Codec] and [session.TextCodec] against their
// contracts: the comments on these interfaces.
//
// This is the whole test of a backend:
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
// [TestLocker] tests a locker in the same way, and [TestCodec] a codec.
//
// # Rules
//
// Each rule of a contract is a subtest with a name, such as SaveStale. A rule
// that fails prints the sentences of the contract that it checks. The rules
// overlap as little as possible: one fault fails one rule, and beside it only
// rules that look at many things at once. Some rules need the race detector,
// so run the tests with -race.
//
// A rule leaves itself out if it would only repeat another: a race says nothing
// about a backend that fails without concurrency. It logs the reason. If rules
// were left out and no other rule failed, the run fails.
//
// A call that has not returned after a minute hangs. The run then ends with the
// name of the call.
//
// # Load
//
// Four rules run at a time, each with a backend of its own from New. The rules
// that wait for a deadline or a lease run beside them, all at once. Most of
// those share one backend and begin with some dozens of calls at the same time.
// Those that make the store fail, or hold requests back, have a backend each.
// So up to 13 backends are in use, or 26 with Reopen. Divide the connections of
// a database among them: with 97 connections, give each backend a pool of 3.
// With Advance no rule waits, and 4 backends are in use.
//
// # Limits
//
// Some of the contract cannot be tested from outside and is left to the tests
// of the backend:
//
//   - A retry inside the backend after a lost response must not report the
//     caller's own attempt as a conflict, or as another holder's lock. A test
//     of that needs a proxy that drops the response to a request that was
//     carried out.
//   - Without Hold, requests that arrive late are not tested. The rules about
//     them have names that begin with Late.
//   - A sweep must leave foreign records alone, keep to its budget and continue
//     after a page that failed. Only the backend knows how to test that.
//   - If Load hides expired records, the suite can only measure a Sweeper by
//     its own reports.
//
// The package uses the standard library only.
package conformance
