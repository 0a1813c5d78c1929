// Package migrate moves sessions from one store to another while visitors use
// them. Tokens and cookies stay as they are, so nobody is logged out.
//
//	backend, err := migrate.New(newBackend, migrate.From(oldBackend, migrate.FromConfig{}), migrate.Config{})
//	manager, err := session.New(backend, session.Config{...})
//
// A session moves when a request asks for it: [New] returns a backend that looks
// in the new store, and in the old one only if the session is not there. What is
// in the old store goes into the new one before it is served. All other records
// of a Manager move in the same way: old IDs, and the index of
// [session.Config.Owners].
//
// # Phases
//
// [Config.Phase] leads a site with several servers from one store to the other,
// without an interruption. Change it on one server after the other, and go on when
// all servers have the new phase. Two phases that are neighbours get along.
//
//   - [Hold]: new sessions go to the old store, and all sessions stay where they
//     are. So servers of the release before, which know only the old store, find
//     every session. A server in this phase also looks in the new store, where
//     servers in phase Move may have taken a session.
//   - [Move], the default: new sessions go to the new store. A session of the old
//     store moves when it is used.
//   - [Drain]: as Move, but nothing is written to the old store any more except to
//     take sessions from it. When all servers drain, a store that is found empty
//     stays empty. "sessionctl migrate" moves the rest, and says when that is done.
//   - [Gone]: the old store is not asked. Ten minutes after the last server has come
//     here, the new backend can be used without this package.
//
// Servers that know only the old store must be gone before the first one moves: they
// would not find what has moved. A site with one server, or one that can stop for a
// moment, begins with Move.
//
// A step back is possible at any time: from Drain to Move to Hold. From there, let
// the servers move the other way, with the stores exchanged: first phase Move of
// the other direction, then Drain, then Gone. See docs/migration.md.
//
// # How a session moves
//
// Between two backends of this module, a move is four requests, each one with a
// condition:
//
//  1. Load the record from the old store.
//  2. Create a copy in the new store, marked as a copy. Nobody serves it.
//  3. Replace the old record by a note that names the version of the copy. This is
//     the moment in which the session moves. It fails if the old record has
//     changed; then the move begins again.
//  4. Replace the copy by the record itself.
//
// A server that dies in between leaves the old record, or a note with the copy that
// it names, which the next request completes. A copy that arrives late, when the
// session has moved already or was logged out, is named by no note, and counts for
// nothing. So a logout is final, however slow another request is, and no clock
// is asked.
//
// Another library's store, a [Source] that is not of [From], has no such note. There
// the record is removed in step 3, and a logout leaves a tombstone in the new store
// for ten minutes, ten times as long as a request may take to move a session.
//
// # Cost
//
// A session in the new store costs the same requests as without this package, and
// one Load more for each Touch and Acquire. A token that the new store does not know
// costs 1 Load of the old store (with a [Source] of your own, a second Load of the new
// one, too). A move is once for each session: 1 Load and 2 Saves in the new store, and
// 1 Load and 1 Save (or Remove) in the old one. Delete is 1 request in each store.
//
// In phase Hold, a session in the old store costs 1 Save in the new store more when
// it is created, 1 Load more for each Touch and Acquire, and 1 Delete more for each
// Delete.
package migrate
