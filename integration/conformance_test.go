package integration

import (
	"sync"
	"testing"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/conformance"
	"github.com/seed-a7bee19b/session/integration/proxy"
)

func TestDynamoDBConformance(t *testing.T) {
	tests := []struct {
		name   string
		config dynamodb.Config
		fault  proxy.Fault // how the store fails in the rule about failures
	}{
		{"Defaults", dynamodb.Config{}, proxy.InternalError},
		{"String", dynamodb.Config{DataType: dynamodb.String}, proxy.DropRequest},
		{"Names", dynamodb.Config{
			KeyAttribute:     "PK",
			DataAttribute:    "size", // reserved words, and names that must be quoted
			ExpiresAttribute: "ttl",
			CreatedAttribute: "made.on",
			VersionAttribute: "v#1",
		}, proxy.Throttle},
		{"Hang", dynamodb.Config{}, proxy.Hang},
		{"PHP", dynamodb.Config{PHP: dynamodb.PHPConfig{Connection: dynamodb.VersionedConnection}}, proxy.InternalError},
		{"PHPStock", dynamodb.Config{PHP: dynamodb.PHPConfig{Connection: dynamodb.StockLocking}}, proxy.DropRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			type parts struct {
				proxy  *proxy.Proxy
				config dynamodb.Config
			}
			var made sync.Map // session.Backend -> parts
			partsOf := func(b session.Backend) parts {
				v, _ := made.Load(b)
				return v.(parts)
			}
			conformance.TestBackend(t, conformance.Backend{
				New: func(t testing.TB) session.Backend {
					c := newTable(t, tt.config)
					b, p := connect(t, c)
					made.Store(session.Backend(b), parts{p, c})
					return b
				},
				Reopen: func(t testing.TB, b session.Backend) session.Backend {
					other, _ := connect(t, partsOf(b).config)
					return other
				},
				Fail: func(_ testing.TB, b session.Backend) func() {
					p := partsOf(b).proxy
					p.SetRule(func(proxy.Request) proxy.Action { return proxy.Action{Fault: tt.fault} })
					return func() { p.SetRule(nil) }
				},
				// The rest of the 400 KB is for the key and the attributes.
				WantsLocking: true,
				WantsSweeper: true,
				WantsLister:  true,
				MaxData:      dynamodb.MaxItemSize - 1024,
				WantsText:    tt.config.DataType == dynamodb.String,
			})
		})
	}
}
