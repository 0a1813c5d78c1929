package sessionotel_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	prom "github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/observe"
	sessionotel "github.com/seed-a7bee19b/session/observe/otel"
)

// exported returns the series, with their labels, that the Prometheus exporter
// makes from everything that an Observer can report.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	registry := prom.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(registry))
	check(t, err)
	var b memory.Backend
	o, err := sessionotel.New(sessionotel.Config{
		MeterProvider: metric.NewMeterProvider(metric.WithReader(exporter)),
		Active:        func(context.Context) (int64, error) { return int64(b.Len()), nil },
	})
	check(t, err)

	m := newManager(t, &b, session.Config{Mode: session.Exclusive, Observer: o})
	x := m.Start()
	check(t, visits.Set(x, 1))
	check(t, x.Save(ctx))
	x, err = m.Open(ctx, x.Token().Reveal())
	check(t, err)
	check(t, x.Close(ctx))
	// Values that such a backend does not report on a good day.
	for k := observe.EventKind(1); !strings.HasPrefix(k.String(), "EventKind("); k++ {
		o.Event(ctx, observe.Event{Kind: k, Err: errStore})
	}
	for op := observe.OpLoad; !strings.HasPrefix(op.String(), "Op("); op++ {
		_, done := o.Call(ctx, op)
		done(errStore)
	}
	o.Request(ctx, observe.Request{Name: "UpdateItem", Table: "sessions", Attempt: 2, ReadUnits: 1, WriteUnits: 1, Err: errStore})

	families, err := registry.Gather()
	check(t, err)
	series := map[string][]string{}
	for _, f := range families {
		names := []string{f.GetName()}
		if f.GetType().String() == "HISTOGRAM" {
			names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
		}
		for _, name := range names {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					series[name] = append(series[name], l.GetName())
				}
			}
			if strings.HasSuffix(name, "_bucket") {
				series[name] = append(series[name], "le")
			}
		}
	}
	return series
}

var (
	seriesRE = regexp.MustCompile(`[a-z_]+\{([^}]*)\}`)
	labelRE  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
	byRE     = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	legendRE = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// TestDashboard checks that the dashboard uses only names that are exported, and
// uses each of them.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("../../docs/grafana-dashboard.json")
	check(t, err)
	var dashboard struct {
		Title         string
		SchemaVersion int
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			ID         int
			Type       string
			Title      string
			Datasource struct{ UID string }
			GridPos    struct{ H, W, X, Y int }
			Targets    []struct{ Expr, LegendFormat string }
		}
	}
	check(t, json.Unmarshal(data, &dashboard))
	if dashboard.Title == "" || dashboard.SchemaVersion < 38 || len(dashboard.Templating.List) == 0 ||
		dashboard.Templating.List[0].Type != "datasource" {
		t.Errorf("not a dashboard for Grafana 10 with a variable for its data source: %+v", dashboard.Templating)
	}

	series := exported(t)
	used := map[string]bool{}
	added := []string{"job", "instance"} // by Prometheus
	checkExpr := func(title, expr, legend string) {
		t.Helper()
		found := seriesRE.FindAllStringSubmatch(expr, -1)
		if len(found) == 0 {
			t.Errorf("%s: no series in %s", title, expr)
		}
		for _, match := range found {
			name, _, _ := strings.Cut(match[0], "{")
			labels, ok := series[name]
			if !ok {
				t.Errorf("%s: %s is not exported", title, name)
				continue
			}
			used[name] = true
			wanted := legendRE.FindAllStringSubmatch(legend, -1)
			wanted = append(wanted, labelRE.FindAllStringSubmatch(match[1], -1)...)
			for _, by := range byRE.FindAllStringSubmatch(expr, -1) {
				for label := range strings.SplitSeq(by[1], ", ") {
					wanted = append(wanted, []string{by[0], label})
				}
			}
			for _, label := range wanted {
				if !slices.Contains(labels, label[1]) && !slices.Contains(added, label[1]) {
					t.Errorf("%s: %s has no label %s", title, name, label[1])
				}
			}
		}
	}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: ID %d, at %+v", p.Title, p.ID, p.GridPos)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s: %d queries to %q", p.Title, len(p.Targets), p.Datasource.UID)
		}
		for _, target := range p.Targets {
			checkExpr(p.Title, target.Expr, target.LegendFormat)
		}
	}
	for name := range series {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !strings.HasPrefix(name, "session_") && !strings.HasPrefix(name, "db_client_") {
			continue // of the exporter
		}
		if !slices.ContainsFunc([]string{"", "_bucket", "_count"}, func(suffix string) bool { return used[base+suffix] }) {
			t.Errorf("%s is not in the dashboard", base)
		}
	}
}
