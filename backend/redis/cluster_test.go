package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/conformance"
)

// startCluster starts two servers that share the slots.
func startCluster(t *testing.T) (addrs []string) {
	t.Helper()
	ctx := t.Context()
	for i := range 2 {
		bus, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(bus.Addr().String())
		_ = bus.Close()
		addr, stop, err := startServer("--cluster-enabled", "yes", "--cluster-port", port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		addrs = append(addrs, addr)
		client := redis.NewClient(&redis.Options{Addr: addr})
		closeLater(t, client)
		if err := client.ClusterAddSlotsRange(ctx, 8192*i, 8192*i+8191).Err(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		first := redis.NewClient(&redis.Options{Addr: addrs[0]})
		closeLater(t, first)
		_, firstPort, _ := net.SplitHostPort(addrs[0])
		firstBus := first.ConfigGet(ctx, "cluster-port").Val()["cluster-port"]
		if err := client.Do(ctx, "cluster", "meet", "127.0.0.1", firstPort, firstBus).Err(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if ready(ctx, first) && ready(ctx, client) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the cluster is not ready")
			}
		}
	}
	return addrs
}

func ready(ctx context.Context, client *redis.Client) bool {
	info := client.ClusterInfo(ctx).Val()
	return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_assigned:16384") &&
		strings.Contains(info, "cluster_size:2")
}

func TestCluster(t *testing.T) {
	addrs := startCluster(t)
	newBackend := func(t testing.TB) *Backend {
		t.Helper()
		// This client would read from replicas if it could.
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addrs[0]}, ReadOnly: true})
		t.Cleanup(func() { _ = client.Close() })
		b, err := New(client, Config{MaxSize: testMaxSize})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Run("spread", func(t *testing.T) {
		b := newBackend(t)
		for i := range 20 {
			key := fmt.Sprint("key", i)
			v := mustSave(t, b, key, "1", "")
			held := mustAcquire(t, b, key, time.Minute)
			wantNil(t, b.Extend(t.Context(), key, held.Version, time.Minute), "Extend")
			wantNil(t, b.Release(t.Context(), key, held.Version, time.Time{}), "Release")
			mustSave(t, b, key, "2", v)
		}
		for _, addr := range addrs {
			client := redis.NewClient(&redis.Options{Addr: addr})
			if n := client.DBSize(t.Context()).Val(); n == 0 || n == 20 {
				t.Errorf("one server has %d of 20 keys", n)
			}
			_ = client.Close()
		}
	})
	t.Run("list", func(t *testing.T) {
		b := newBackend(t)
		for i := range 20 {
			mustSave(t, b, fmt.Sprint("listed", i), "1", "")
		}
		got := listed(t, b, admin.ListOptions{KeyPrefix: "listed"})
		if len(got) != 20 {
			t.Errorf("listed %d of 20 keys", len(got))
		}
		for key, e := range got {
			if e.Foreign || e.DataSize != 1 {
				t.Errorf("%s: %+v", key, e)
			}
		}
		stop := errors.New("stop")
		_, err := b.List(t.Context(), admin.ListOptions{}, func(admin.Entry) error { return stop })
		wantErr(t, err, stop, "List")
	})
	t.Run("wrong client", func(t *testing.T) {
		for _, addr := range addrs {
			client := redis.NewClient(&redis.Options{Addr: addr})
			b, err := New(client, Config{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				_, err = b.Load(t.Context(), fmt.Sprint("key", i))
				if err != nil && !strings.Contains(err.Error(), "NewClusterClient") {
					t.Errorf("got %v", err)
				}
			}
			_ = client.Close()
		}
	})
	conformance.TestBackend(t, conformance.Backend{
		New:     func(t testing.TB) session.Backend { return newBackend(t) },
		Reopen:  func(t testing.TB, _ session.Backend) session.Backend { return newBackend(t) },
		MaxData: testMaxSize,
	})
}
