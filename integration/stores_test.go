package integration

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/codec/php"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// A store locks records. All stores have the same tests.
type store struct {
	name string
	// room makes space that no other test uses. Its address is that of the
	// engine itself.
	room func(t testing.TB) address
	// link starts a proxy in front of an engine.
	link func(target string) (link, error)
	// connect returns the backend at an address, in any process.
	connect func(a address) (session.LockingBackend, error)
	// writes is the operation, for the proxy, of Acquire and Save.
	writes string
	// busy is the fault by which the store refuses a request for now.
	busy proxy.Fault
	// mistaken is a fault, besides DropRequest, after which the client cannot
	// tell whether its request was applied, although it was not.
	mistaken proxy.Fault
	// idle closes idle connections.
	idle func()
	// suit changes a Config for a Manager on the store. It may be nil.
	suit func(c *session.Config)
}

// address says where a process finds its sessions.
type address struct {
	Store    string
	URL      string
	Room     string
	Attempts int    // of each call; 0: the default
	Locks    string // the address of a Locker, "" if the backend itself locks
}

// link is a proxy in front of a store.
type link interface {
	URL() string
	SetRule(proxy.Rule)
	Counts() map[string]proxy.Count
	Reset()
	Close() error
}

var stores = []*store{dynamoStore, redisStore}

func (a address) store() *store {
	for _, s := range append([]*store{apartStore, besideStore}, stores...) {
		if s.name == a.Store {
			return s
		}
	}
	panic("no store called " + a.Store)
}

// keptOpen has the connections of the backends: as many as one process of the
// tests may need at once.
var keptOpen = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

var dynamoStore = &store{
	name: "DynamoDB",
	room: func(t testing.TB) address {
		return address{Store: "DynamoDB", URL: local.Endpoint, Room: newTable(t, dynamodb.Config{}).Table}
	},
	link: func(target string) (link, error) { return proxy.New(target) },
	connect: func(a address) (session.LockingBackend, error) {
		cfg := awsConfig(a.URL)
		cfg.HTTPClient = keptOpen
		return dynamodb.New(cfg, dynamodb.Config{
			Table: a.Room, MaxAttempts: a.Attempts, AttemptTimeout: time.Minute,
			BackoffBase: 2 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		})
	},
	writes:   "UpdateItem",
	busy:     proxy.Throttle,
	mistaken: proxy.DropRequest,
	idle:     keptOpen.CloseIdleConnections,
}

var redisStore = &store{
	name: "Redis",
	room: func(testing.TB) address {
		return address{Store: "Redis", URL: server.Endpoint, Room: "test-" + rand.Text() + ":"}
	},
	link: func(target string) (link, error) { return proxy.NewRedis(target) },
	connect: func(a address) (session.LockingBackend, error) {
		return redisstore.New(clients.at(a), redisstore.Config{Prefix: a.Room})
	},
	writes:   "EVALSHA",
	busy:     proxy.Throttle,
	mistaken: proxy.Throttle, // the client retries without logging the cause
	idle:     clients.close,
}

// clients are the Redis clients of this process, one for each address.
var clients redisClients

type redisClients struct {
	mu sync.Mutex
	m  map[string]*goredis.Client
}

func (c *redisClients) at(a address) *goredis.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		goredis.SetLogger(silence{})
		c.m = map[string]*goredis.Client{}
	}
	k := fmt.Sprint(a.URL, a.Attempts)
	if c.m[k] == nil {
		retries := 3
		if a.Attempts > 0 {
			retries = a.Attempts - 1
		}
		if retries == 0 {
			retries = -1 // 0 is the default
		}
		c.m[k] = goredis.NewClient(&goredis.Options{
			Addr: a.URL, MaxRetries: retries, MinRetryBackoff: 2 * time.Millisecond, MaxRetryBackoff: 20 * time.Millisecond,
			ContextTimeoutEnabled: true, PoolSize: 64,
			// A busy machine may stall, which is not under test.
			ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		})
	}
	return c.m[k]
}

func (c *redisClients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.m {
		_ = client.Close() // of a connection that a proxy has closed
	}
	c.m = nil
}

// silence replaces the client's log, which reports each connection that a proxy
// has closed.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// apartStore has sessions in DynamoDB, and locks in Redis.
var apartStore = &store{
	name: "DynamoDB and Redis",
	room: func(t testing.TB) address {
		a := dynamoStore.room(t)
		a.Store, a.Locks = "DynamoDB and Redis", server.Endpoint
		return a
	},
	link:    dynamoStore.link,
	connect: dynamoStore.connect,
	writes:  dynamoStore.writes,
	busy:    dynamoStore.busy,
	idle:    func() { dynamoStore.idle(); redisStore.idle() },
}

// besideStore has sessions in a DynamoDB table that PHP uses too. Its handler is not at
// work here: see package php.
var besideStore = &store{
	name: "DynamoDB beside PHP",
	room: func(t testing.TB) address {
		a := dynamoStore.room(t)
		a.Store = "DynamoDB beside PHP"
		return a
	},
	link: dynamoStore.link,
	connect: func(a address) (session.LockingBackend, error) {
		cfg := awsConfig(a.URL)
		cfg.HTTPClient = keptOpen
		return dynamodb.New(cfg, dynamodb.Config{
			Table: a.Room, MaxAttempts: a.Attempts, AttemptTimeout: time.Minute,
			BackoffBase: 2 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
			PHP: dynamodb.PHPConfig{Connection: dynamodb.StockLocking, AcceptLoss: true},
		})
	},
	writes:   dynamoStore.writes,
	busy:     dynamoStore.busy,
	mistaken: dynamoStore.mistaken,
	idle:     dynamoStore.idle,
	suit: func(c *session.Config) {
		c.Codec, c.Tokens, c.StoreKey = php.Codec{}, dynamodb.PHPTokens(), dynamodb.PHPStoreKey("PHPSESSID")
		c.Cookie.Name, c.IdleTimeout = "PHPSESSID", 24*time.Minute
	},
}

// eachStore runs f on each store, with a room of its own.
func eachStore(t *testing.T, f func(t *testing.T, a address)) { each(t, f, stores...) }

// eachBackend does the same, and also on a table beside PHP.
func eachBackend(t *testing.T, f func(t *testing.T, a address)) {
	each(t, f, append([]*store{besideStore}, stores...)...)
}

// eachLock runs f on each store, and also for locks that are apart from the sessions.
func eachLock(t *testing.T, f func(t *testing.T, a address)) {
	each(t, f, append([]*store{apartStore}, stores...)...)
}

func each(t *testing.T, f func(t *testing.T, a address), stores ...*store) {
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			f(t, s.room(t))
		})
	}
}

// through returns a, seen through a proxy of its own.
func (a address) through(t testing.TB) (address, link) {
	t.Helper()
	l, err := a.store().link(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	a.URL = l.URL()
	if a.Locks == "" {
		return a, l
	}
	locks := address{Store: redisStore.name, URL: a.Locks}
	locks, second := locks.through(t)
	a.Locks = locks.URL
	return a, &twoLinks{l, second}
}

// twoLinks uses two links as one.
type twoLinks struct {
	link
	second link
}

func (l *twoLinks) SetRule(r proxy.Rule) {
	l.link.SetRule(r)
	l.second.SetRule(r)
}

func (l *twoLinks) Counts() map[string]proxy.Count {
	counts := l.link.Counts()
	maps.Copy(counts, l.second.Counts()) // no operation is in both
	return counts
}

func (l *twoLinks) Reset() {
	l.link.Reset()
	l.second.Reset()
}

// faulty is a rule with 5 % of each fault.
func (s *store) faulty(seed uint64) proxy.Rule {
	return proxy.Random(seed, map[proxy.Fault]float64{proxy.DropRequest: 0.05, proxy.DropResponse: 0.05, s.busy: 0.05})
}

// locker returns the Locker at a, nil if the backend locks.
func (a address) locker() (session.Locker, error) {
	if a.Locks == "" {
		return nil, nil
	}
	return redisstore.NewLocker(clients.at(address{URL: a.Locks, Attempts: a.Attempts}), redisstore.LockerConfig{Prefix: a.Room + ":"})
}

func (a address) backend(t testing.TB) session.LockingBackend {
	t.Helper()
	b, err := a.store().connect(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// manager returns a Manager over the backend at a.
func (a address) manager(t testing.TB, cfg session.Config) *session.Manager {
	t.Helper()
	var err error
	if cfg.Lock.Locker, err = a.locker(); err != nil {
		t.Fatal(err)
	}
	if suit := a.store().suit; suit != nil {
		suit(&cfg)
	}
	m, err := session.New(a.backend(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// begin stores a session with some data and returns its token.
func (a address) begin(t testing.TB) string {
	t.Helper()
	m := a.manager(t, session.Config{})
	s := m.Start()
	if err := note.Set(s, "kept"); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.Token().Reveal()
}

// seed returns a seed that differs in each run, and logs it.
func seed(t testing.TB) uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	t.Logf("seed %d", n)
	return n
}

// allCounts adds up the counts of proxies, by operation.
func allCounts(links ...link) map[string]proxy.Count {
	all := map[string]proxy.Count{}
	for _, l := range links {
		for op, c := range l.Counts() {
			sum := all[op]
			sum.Requests += c.Requests
			sum.Applied += c.Applied
			sum.Capacity += c.Capacity
			all[op] = sum
		}
	}
	return all
}

func total(links ...link) proxy.Count {
	var sum proxy.Count
	for _, c := range allCounts(links...) {
		sum.Requests += c.Requests
		sum.Applied += c.Applied
		sum.Capacity += c.Capacity
	}
	return sum
}

func perLock(requests, locks int) string {
	return fmt.Sprintf("%.2f", float64(requests)/float64(locks))
}
