package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	redisstore "github.com/seed-a7bee19b/session/backend/redis"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

// Ratio is the time of ours as a multiple of raw calls that do the same work.
type Ratio struct {
	Store  string
	Level  string // what is compared
	Work   work
	Size   string
	Ours   float64 // microseconds, median of the rounds
	Raw    float64
	Ratio  float64 // median of the rounds
	Lower  float64 // the quartiles
	Upper  float64
	Rounds int
}

// The levels.
const (
	levelManager = "Manager"
	levelHTTP    = "HTTP"
)

// raw is a store without this module.
type raw interface {
	load(ctx context.Context, key string) (version, error)
	save(ctx context.Context, key string, old version) error
}

// version is the value that a compare-and-set compares.
type version []byte

func awsConfig(endpoint string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint: aws.String(endpoint),
	}
}

const table = "compare"

func dynamoClient(endpoint string) *sdk.Client {
	return sdk.NewFromConfig(awsConfig(endpoint), func(o *sdk.Options) { o.Retryer = aws.NopRetryer{} })
}

func dynamoBackend(ctx context.Context, client *sdk.Client) (*dynamodb.Backend, error) {
	b, err := dynamodb.NewFromClient(client, dynamodb.Config{Table: table, AttemptTimeout: 20 * time.Second})
	if err != nil {
		return nil, err
	}
	return b, b.CreateTable(ctx, dynamodb.TableOptions{})
}

// rawDynamo sends the requests of backend/dynamodb by hand.
type rawDynamo struct {
	client *sdk.Client
	item   map[string]types.AttributeValue // as last read
}

var names = map[string]string{"#d": "data", "#e": "expires", "#c": "created", "#v": "version", "#l": "lock", "#u": "lock_until"}

func idOf(key string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: key}}
}

func (d *rawDynamo) load(ctx context.Context, key string) (version, error) {
	out, err := d.client.GetItem(ctx, &sdk.GetItemInput{
		TableName: aws.String(table), Key: idOf(key), ConsistentRead: aws.Bool(true),
		ProjectionExpression: aws.String("#d, #e, #c, #v, #l, #u"), ExpressionAttributeNames: names,
	})
	if err != nil {
		return nil, err
	}
	v, ok := out.Item["version"].(*types.AttributeValueMemberB)
	if !ok {
		return nil, errors.New("the item has no version")
	}
	d.item = out.Item
	return v.Value, nil
}

func (d *rawDynamo) save(ctx context.Context, key string, old version) error {
	now := time.Now()
	next := append(append(version{}, old[8:]...), byte(now.UnixNano()), byte(now.UnixNano()>>8), byte(now.UnixNano()>>16), 0, 0, 0, 0, 0)
	_, err := d.client.UpdateItem(ctx, &sdk.UpdateItemInput{
		TableName: aws.String(table), Key: idOf(key),
		UpdateExpression:         aws.String("SET #d = :d, #e = :e, #c = :c, #v = :v REMOVE #l, #u"),
		ConditionExpression:      aws.String("#v = :old AND #e > :now AND (attribute_not_exists(#l) OR #u <= :ms)"),
		ExpressionAttributeNames: names,
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":d": d.item["data"], ":c": d.item["created"], ":v": &types.AttributeValueMemberB{Value: next},
			":e":   &types.AttributeValueMemberN{Value: strconv.FormatInt(now.Add(2*time.Hour).Unix(), 10)},
			":old": &types.AttributeValueMemberB{Value: old},
			":now": &types.AttributeValueMemberN{Value: strconv.FormatInt(now.Unix(), 10)},
			":ms":  &types.AttributeValueMemberN{Value: strconv.FormatInt(now.UnixMilli(), 10)},
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	return err
}

// rawRedis is a hash and a script that compares and sets.
type rawRedis struct {
	client *redis.Client
	data   string
}

var compareAndSet = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'data', ARGV[2], 'created', ARGV[3], 'expires', ARGV[4], 'version', ARGV[5])
redis.call('PEXPIREAT', KEYS[1], ARGV[4])
return 1
`)

func (d *rawRedis) load(ctx context.Context, key string) (version, error) {
	m, err := d.client.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	if m["version"] == "" {
		return nil, errors.New("the hash has no version")
	}
	d.data = m["data"]
	return version(m["version"]), nil
}

func (d *rawRedis) save(ctx context.Context, key string, old version) error {
	now := time.Now()
	next := strconv.FormatInt(now.UnixNano()&0xffffffff|1<<32, 16)[1:]
	n, err := compareAndSet.Run(ctx, d.client, []string{key}, string(old), d.data, now.UnixMilli(), now.Add(2*time.Hour).UnixMilli(), next).Int()
	if err == nil && n != 1 {
		err = errors.New("refused")
	}
	return err
}

// pairOf has our work and the raw work, on two records with the same bytes.
type pairOf struct {
	level     string
	work      work
	ours, raw func() error
}

// pairs begins a session and returns the work to compare. copied makes the raw
// record from ours.
func pairs(ctx context.Context, b session.Backend, r raw, size string, copied func(key string) (rawKey string, err error)) ([]pairOf, error) {
	m, err := session.New(b, session.Config{})
	if err != nil {
		return nil, err
	}
	s := m.Start()
	for name, v := range values(size) {
		if err := s.Set(name, v); err != nil {
			return nil, err
		}
	}
	if err := s.Save(ctx); err != nil {
		return nil, err
	}
	token := s.Token().Reveal()
	for range 20 { // until the history of the version has its full length
		if err := change(ctx, m, token); err != nil {
			return nil, err
		}
	}
	rawKey, err := copied(session.DefaultStoreKey(token))
	if err != nil {
		return nil, err
	}

	handlers := ourHandlers(m, nil)
	cookie := "__Host-session=" + token
	rawHandler := func(writes bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			c, err := req.Cookie("__Host-session")
			if err == nil {
				_ = session.DefaultStoreKey(c.Value)
				var v version
				if v, err = r.load(req.Context(), rawKey); err == nil && writes {
					err = r.save(req.Context(), rawKey, v)
				}
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Vary", "Cookie")
			w.Header().Set("Cache-Control", "no-store")
			_, _ = w.Write(page)
		})
	}
	out := []pairOf{
		{level: levelManager, work: read, ours: func() error {
			s, err := m.Open(ctx, token)
			if err != nil {
				return err
			}
			_, err = user.Get(s)
			return err
		}, raw: func() error { _, err := r.load(ctx, rawKey); return err }},
		{level: levelManager, work: write, ours: func() error { return change(ctx, m, token) }, raw: func() error {
			v, err := r.load(ctx, rawKey)
			if err != nil {
				return err
			}
			return r.save(ctx, rawKey, v)
		}},
	}
	for _, w := range []work{read, write} {
		out = append(out, pairOf{levelHTTP, w, withCookie(ctx, handlers[w], cookie), withCookie(ctx, rawHandler(w == write), cookie)})
	}
	return out, nil
}

// change reads a session, changes it and saves it.
func change(ctx context.Context, m *session.Manager, token string) error {
	s, err := m.Open(ctx, token)
	if err != nil {
		return err
	}
	_, err = number.Update(s, increment)
	return errors.Join(err, s.Save(ctx))
}

// measure alternates between our work and the raw work in rounds of n pairs. The
// order changes from pair to pair.
func (p pairOf) measure(ctx context.Context, rounds, n int) (Ratio, error) {
	one := func(f func() error) (float64, error) {
		began := time.Now()
		err := f()
		return float64(time.Since(began).Nanoseconds()) / 1e3, err
	}
	both := [2]func() error{p.ours, p.raw}
	for range n { // warm connections, scripts and pools
		for _, f := range both {
			if err := f(); err != nil {
				return Ratio{}, err
			}
		}
	}
	var took [2][]float64
	var ratios []float64
	for range rounds {
		if err := ctx.Err(); err != nil {
			return Ratio{}, err
		}
		var round [2][]float64
		for i := range n {
			for k := range 2 {
				who := (i + k) % 2
				us, err := one(both[who])
				if err != nil {
					return Ratio{}, err
				}
				round[who] = append(round[who], us)
			}
		}
		ours, raw := middle(round[0]), middle(round[1])
		took[0], took[1] = append(took[0], ours), append(took[1], raw)
		ratios = append(ratios, ours/raw)
	}
	return Ratio{
		Level: p.level, Work: p.work, Ours: middle(took[0]), Raw: middle(took[1]),
		Ratio: middle(ratios), Lower: quantile(ratios, 0.25), Upper: quantile(ratios, 0.75), Rounds: rounds,
	}, nil
}

// ratios measures both stores. The context can be cancelled, like that of a
// request.
func ratios(ctx context.Context, env environment, rounds, n int) ([]Ratio, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := dynamoClient(env.dynamo)
	db, err := dynamoBackend(ctx, client)
	if err != nil {
		return nil, err
	}
	rc := redis.NewClient(&redis.Options{Addr: env.redis})
	defer rc.Close() //nolint:errcheck // nothing is left to send
	rb, err := redisstore.New(rc, redisstore.Config{})
	if err != nil {
		return nil, err
	}
	stores := []struct {
		name   string
		b      session.Backend
		raw    func() raw
		copied func(key string) (string, error)
		rounds int
	}{
		{"DynamoDB", db, func() raw { return &rawDynamo{client: client} }, func(key string) (string, error) {
			out, err := client.GetItem(ctx, &sdk.GetItemInput{TableName: aws.String(table), Key: idOf(key), ConsistentRead: aws.Bool(true)})
			if err != nil {
				return "", err
			}
			other := strings.Repeat("r", len(key))
			out.Item["id"] = &types.AttributeValueMemberS{Value: other}
			_, err = client.PutItem(ctx, &sdk.PutItemInput{TableName: aws.String(table), Item: out.Item})
			return other, err
		}, rounds},
		{"Redis", rb, func() raw { return &rawRedis{client: rc} }, func(key string) (string, error) {
			m, err := rc.HGetAll(ctx, redisstore.DefaultPrefix+key).Result()
			if err != nil {
				return "", err
			}
			other := redisstore.DefaultPrefix + strings.Repeat("r", len(key))
			// Without the history of versions, which a raw compare-and-set does not need.
			return other, rc.HSet(ctx, other, "data", m["data"], "created", m["created"], "expires", m["expires"], "version", m["version"][:8]).Err()
		}, 4 * rounds},
	}
	var out []Ratio
	for _, st := range stores {
		for _, size := range sizes {
			ps, err := pairs(ctx, st.b, st.raw(), size, st.copied)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", st.name, err)
			}
			for _, p := range ps {
				runtime.GC()
				r, err := p.measure(ctx, st.rounds, n)
				if err != nil {
					return nil, fmt.Errorf("%s: %s, %s: %w", st.name, p.level, p.work, err)
				}
				r.Store, r.Size = st.name, size
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// Price is the cost of a kind of request on DynamoDB.
type Price struct {
	What     string
	Requests string
	Units    float64
}

// prices counts, in a proxy, the cost on DynamoDB of requests over HTTP.
func prices(ctx context.Context, env environment) ([]Price, error) {
	p, err := proxy.New(env.dynamo)
	if err != nil {
		return nil, err
	}
	defer p.Close() //nolint:errcheck // its counts have been read
	b, err := dynamoBackend(ctx, dynamoClient(p.URL()))
	if err != nil {
		return nil, err
	}
	m, err := session.New(b, session.Config{})
	if err != nil {
		return nil, err
	}
	locked, err := m.With(session.Route{Mode: session.Exclusive})
	if err != nil {
		return nil, err
	}
	vs := values(typical)
	get := func(m *session.Manager, f func(r *http.Request, s *session.Session) error) http.Handler {
		return m.HandlerFunc(func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
			if err := f(r, s); err != nil {
				return err
			}
			_, _ = w.Write(page)
			return nil
		})
	}
	one := func(_ *http.Request, s *session.Session) error { _, err := user.Get(s); return err }
	inc := func(_ *http.Request, s *session.Session) error { _, err := number.Update(s, increment); return err }
	fill := func(_ *http.Request, s *session.Session) error {
		for name, v := range vs {
			if err := s.Set(name, v); err != nil {
				return err
			}
		}
		return nil
	}
	steps := []struct {
		what    string
		cookie  bool
		handler http.Handler
	}{
		{"a page that does not ask for its session", true, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) }))},
		{"a visitor without a session, nothing set", false, get(m, one)},
		{"new session", false, get(m, fill)},
		{"read", true, get(m, one)},
		{"read and write", true, get(m, inc)},
		{"read under a lock", true, get(locked, one)},
		{"read and write under a lock", true, get(locked, inc)},
		{"log in: a new ID", true, get(m, func(_ *http.Request, s *session.Session) error { return s.Login("ann") })},
		{"log out", true, get(m, func(r *http.Request, s *session.Session) error { return s.Destroy(r.Context()) })},
	}
	var out []Price
	for _, st := range steps {
		call := withCookie(ctx, st.handler, "")
		if st.cookie {
			cookie, err := cookieOf(ctx, get(m, fill))
			if err != nil {
				return nil, err
			}
			call = withCookie(ctx, st.handler, cookie)
		}
		p.Reset()
		if err := call(); err != nil {
			return nil, fmt.Errorf("%s: %w", st.what, err)
		}
		out = append(out, price(st.what, p.Counts()))
	}
	return out, nil
}

func price(what string, counts map[string]proxy.Count) Price {
	pr := Price{What: what}
	var parts []string
	for _, op := range []string{"GetItem", "UpdateItem", "PutItem", "DeleteItem"} {
		if c := counts[op]; c.Requests > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.Requests, op))
			pr.Units += c.Capacity
		}
	}
	if pr.Requests = strings.Join(parts, " + "); pr.Requests == "" {
		pr.Requests = "0"
	}
	return pr
}
