package cost_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-a7bee19b/session/cmd/sessionctl/cost"
)

const goodPrices = `{"date":"2026-01-02","currency":"EUR","regions":{"mars-1":{"standard":{
	"read_million":1,"write_million":2,"read_unit_hour":3,"write_unit_hour":4,"storage_gb_month":0}}}}`

func TestDefaultPrices(t *testing.T) {
	p, err := cost.DefaultPrices()
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.For("us-east-1", "standard")
	if want := (cost.Price{0.125, 0.625, 0.00013, 0.00065, 0.25}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestParsePrices(t *testing.T) {
	p, err := cost.ParsePrices([]byte(goodPrices))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.For("mars-1", "standard")
	if want := (cost.Price{1, 2, 3, 4, 0}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, names := range [][2]string{{"mars-2", "standard"}, {"mars-1", "rare"}} {
		if _, err := p.For(names[0], names[1]); err == nil || !strings.Contains(err.Error(), "mars-1") {
			t.Errorf("%v: got %v", names, err)
		}
	}

	change := func(old, with string) string {
		if !strings.Contains(goodPrices, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(goodPrices, old, with, 1)
	}
	tests := []struct{ name, data, want string }{
		{"nothing", "", "EOF"},
		{"null", "null", "date"},
		{"no object", "[]", "cannot unmarshal"},
		{"more", goodPrices + "{}", "after the table"},
		{"unknown field", change(`"date"`, `"dat":1,"date"`), "unknown field"},
		{"date", change("2026-01-02", "2.1.2026"), "date"},
		{"currency", change("EUR", "euro"), "currency"},
		{"no region", change(`"mars-1"`, `"":{},"mars-1"`), "no name"},
		{"no class", change(`"standard":{`, `"":{`), "no name"},
		{"a price is missing", change(`"read_unit_hour":3,`, ""), "read_unit_hour is missing"},
		{"a price is null", change(`"read_unit_hour":3`, `"read_unit_hour":null`), "read_unit_hour is missing"},
		{"a price is text", change(`"read_unit_hour":3`, `"read_unit_hour":"3"`), "cannot unmarshal"},
		{"negative", change(`"write_million":2`, `"write_million":-2`), "negative"},
		{"too large", change(`"write_million":2`, `"write_million":1e999`), "cannot unmarshal"},
		{"other letters", change(`"write_million":2`, `"Write_Million":2`), "write_million is missing"},
		{"twice", change(`"write_million":2`, `"write_million":2,"WRITE_MILLION":5`), "twice"},
		{"huge", goodPrices + strings.Repeat(" ", cost.MaxPricesSize), "are allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := cost.ParsePrices([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func FuzzParsePrices(f *testing.F) {
	f.Add([]byte(goodPrices))
	f.Add([]byte(`{"regions":{"x":{"y":{"read_million":1e308}}}}`))
	f.Add([]byte(`{"date":"2026-01-02","currency":"USD","regions":{"x":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := cost.ParsePrices(data)
		if err != nil {
			return
		}
		for region, classes := range p.Regions {
			for class := range classes {
				price, err := p.For(region, class)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range []float64{price.ReadMillion, price.WriteMillion, price.ReadUnitHour, price.WriteUnitHour, price.StorageMonth} {
					if !(v >= 0) || math.IsInf(v, 0) {
						t.Fatalf("took %+v", price)
					}
				}
			}
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := cost.ParsePrices(again)
		if err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("written again: %v, %s", err, again)
		}
	})
}

func TestParseMix(t *testing.T) {
	m, err := cost.ParseMix(" read=80, locked-write = 0.5 ,new=1e1")
	if want := (cost.Mix{Read: 80, LockedWrite: 0.5, New: 10}); err != nil || m != want {
		t.Errorf("got %+v, %v", m, err)
	}
	if s := m.String(); s != "read=80,locked-write=0.5,new=10" {
		t.Errorf("got %q", s)
	}
	for _, s := range []string{"", "read", "read=", "read=-1", "read=NaN", "read=Inf", "read=0", "buy=1", "read=1,read=2", "read=1,", "read=1e308,write=1e308"} {
		if m, err := cost.ParseMix(s); err == nil {
			t.Errorf("%q: got %+v", s, m)
		}
	}
}

func TestParseSizes(t *testing.T) {
	for s, want := range map[string][]cost.SizeClass{
		"700":             {{700, 1}},
		"700=3":           {{700, 3}},
		"300=60, 5000=.4": {{300, 60}, {5000, 0.4}},
	} {
		if got, err := cost.ParseSizes(s); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", "-1", "1.5", "409601", "300,500", "300=0", "300=60,500=", "300=-1"} {
		if got, err := cost.ParseSizes(s); err == nil {
			t.Errorf("%q: got %+v", s, got)
		}
	}
}

func FuzzParseMix(f *testing.F) {
	f.Add("read=80,write=20", "300=60,5000=40")
	f.Add("new=1e-300", "0")
	f.Add("new=1e307", "0")
	f.Add("login=1e-9,gone=1e9", "0=1e-9,409600=1e9")
	f.Fuzz(func(t *testing.T, mix, sizes string) {
		m, err := cost.ParseMix(mix)
		if err != nil {
			return
		}
		c, err := cost.ParseSizes(sizes)
		if err != nil {
			return
		}
		again, err := cost.ParseMix(m.String())
		if err != nil || again != m {
			t.Fatalf("%q: got %+v, %v", m.String(), again, err)
		}
		w := cost.Workload{Requests: 1e18, Mix: m, Sizes: c, Looks: 1e6, Waits: 1, Conflicts: 1}
		s := cost.Settings{SweepEvery: 1, Peak: 1e6, Provisioned: true}
		dear := cost.Price{ReadMillion: 1e12, WriteMillion: 1e12, ReadUnitHour: 1e12, WriteUnitHour: 1e12, StorageMonth: 1e12}
		e, err := cost.Compute(w, s, dear)
		if err != nil {
			t.Fatal(err)
		}
		changes, err := cost.Changes(w, s, dear)
		if err != nil {
			t.Fatal(err)
		}
		operations, err := cost.Operations(c[0].Data, s, dear)
		if err != nil {
			t.Fatal(err)
		}
		// JSON has no NaN and no infinity.
		if _, err := json.Marshal([]any{e, e.ByRequest(), changes, operations}); err != nil {
			t.Fatalf("%q, %q: %v", mix, sizes, err)
		}
		if !(e.Requests >= 0 && e.ReadUnits >= 0 && e.WriteUnits >= 0 && e.Rows >= 0 && e.Money.Total >= 0) {
			t.Fatalf("%q, %q: got %+v", mix, sizes, e)
		}
	})
}
