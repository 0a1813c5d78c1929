package main

import (
	"context"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/codec"
)

// store is what the commands need of a backend.
type store interface {
	session.LockingBackend

	// String says where the sessions are, as in `table "sessions" in eu-west-1`.
	String() string

	// List calls visit for each record, in no particular order, until all are
	// done or visit fails.
	List(ctx context.Context, opts listOptions, visit func(entry) error) (listReport, error)

	// About returns how many records there are, as far as that can be had
	// without counting them.
	About(ctx context.Context) (estimate, error)

	// Close frees the connections.
	Close() error
}

// entry is what List tells about a record.
type entry struct {
	Key         string
	Size        int // bytes, of the whole record
	DataSize    int // bytes, of Record.Data
	Created     time.Time
	Expires     time.Time
	LockedUntil time.Time // zero if it is free
	Foreign     bool      // was not written by the backend
	Moved       bool      // is what the old ID of a session has left
}

type listOptions struct {
	KeyPrefix string
	Limit     int     // 0: all
	ReadUnits float64 // per second; 0: as fast as it goes
	Segments  int     // 0: the default of the backend
	Workers   int     // 0: the default of the backend
}

type listReport struct {
	Scanned   int64
	ReadUnits float64
	Elapsed   time.Duration
}

// estimate is about how many records a store has.
type estimate struct {
	Records int64
	Bytes   int64         // 0 if it is not known
	Age     time.Duration // how old it may be
}

// open connects to the store that the flags name. It sends no request to it.
func (a *app) open(ctx context.Context) (store, error) {
	if a.backend == "redis" {
		return a.openRedis()
	}
	return a.openDynamoDB(ctx)
}

// codec is the one that the sessions are written with.
func (a *app) sessionCodec() (session.Codec, error) {
	switch a.codec {
	case "msgpack":
		return codec.MessagePack{}, nil
	case "json":
		return codec.JSON{}, nil
	}
	return nil, usageError("--codec is %q; it can be msgpack or json", a.codec)
}
