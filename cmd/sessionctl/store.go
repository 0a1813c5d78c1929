package main

import (
	"context"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/codec"
	"github.com/seed-a7bee19b/session/codec/php"
)

// store is a backend with what the commands need besides.
type store interface {
	session.LockingBackend
	admin.Lister

	// String says where the sessions are, as in `table "sessions" in eu-west-1`.
	String() string

	// About estimates the number of records without counting them.
	About(ctx context.Context) (estimate, error)

	// Close frees the connections.
	Close() error
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

// allCodecs returns the codecs by which a record of package session may be told,
// whatever the flags say.
func allCodecs() []session.Codec {
	return []session.Codec{
		codec.MessagePack{}, codec.JSON{},
		php.Codec{}, php.Codec{Handler: php.Binary}, php.Codec{Handler: php.Serialize},
	}
}

// codec is the one that the sessions are written with.
func (a *app) sessionCodec() (session.Codec, error) {
	if a.php.on() {
		return a.php.codec(), nil
	}
	switch a.codec {
	case "msgpack":
		return codec.MessagePack{}, nil
	case "json":
		return codec.JSON{}, nil
	}
	return nil, usageError("--codec is %q; it can be msgpack or json", a.codec)
}
