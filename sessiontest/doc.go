// Package sessiontest helps to test handlers that use package session.
//
//	func TestCart(t *testing.T) {
//		var store sessiontest.Store
//		m, err := session.New(&store, session.Config{})
//		...
//		r := sessiontest.NewRequest(t, m, "POST", "/cart?sku=tea", nil, func(s *session.Session) error {
//			return cart.Set(s, nineteenItems)
//		})
//		w := httptest.NewRecorder()
//		m.HandlerFunc(addToCart).ServeHTTP(w, r)
//		items, err := cart.Get(sessiontest.Stored(t, m, r, w.Result()))
//		...
//	}
//
// [NewRequest] makes a request of a client that has a session, [Stored] returns
// the session that the client has after a response, and [NoSession] fails the
// test if there is one, as after a logout. They use the cookie or the header
// of the Manager's configuration, so that no test has to know it.
//
// [Store] is a backend in memory. It can age what is stored, and fail:
//
//	store.Advance(3 * time.Hour)           // all sessions are 3 hours older
//	store.Fail(observe.OpSave, errDown)    // until store.Fail(observe.OpSave, nil)
//	store.FailNext(observe.OpLoad, 1, errDown)
//	store.LoseNext(observe.OpSave, 1, errDown) // it is saved, and the caller gets errDown
//
// There is another clock: in a bubble of package testing/synctest, time.Sleep
// moves the clock of the Manager too, at no cost, with any backend in memory.
// Choose it where a test waits for something, such as a lock or the renewal of
// one. Advance needs no bubble, so the test can use a server and a network.
package sessiontest
