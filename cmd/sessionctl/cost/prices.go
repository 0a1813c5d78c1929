package cost

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed prices.json
var embedded []byte

// MaxPricesSize is the largest table of prices that [ParsePrices] reads, in
// bytes.
const MaxPricesSize = 1 << 20

// Prices is a table of what DynamoDB costs, as of a date. What TTL deletes is
// free everywhere.
type Prices struct {
	Date     string                      `json:"date"`     // when they were looked up, as 2006-01-02
	Currency string                      `json:"currency"` // three capital letters
	Source   string                      `json:"source,omitempty"`
	Regions  map[string]map[string]Price `json:"regions"` // by region and table class
}

// Price has the prices of one region and table class, without free tier,
// reservations and taxes.
type Price struct {
	ReadMillion   float64 `json:"read_million"`     // 1,000,000 read request units, on demand
	WriteMillion  float64 `json:"write_million"`    // 1,000,000 write request units, on demand
	ReadUnitHour  float64 `json:"read_unit_hour"`   // 1 provisioned RCU for an hour
	WriteUnitHour float64 `json:"write_unit_hour"`  // 1 provisioned WCU for an hour
	StorageMonth  float64 `json:"storage_gb_month"` // 1 GB for a month
}

// DefaultPrices returns the table that comes with this package. It has
// us-east-1 only: prices differ from region to region, and one that is wrong
// is worse than none.
func DefaultPrices() (Prices, error) { return ParsePrices(embedded) }

// ParsePrices reads a table of prices in JSON, in the form of this package's
// prices.json. It refuses fields that it does not know, and a table that lacks
// any: a price that is missing is not free.
func ParsePrices(data []byte) (Prices, error) {
	p, err := parsePrices(data)
	if err != nil {
		return Prices{}, fmt.Errorf("cost: prices: %w", err)
	}
	return p, nil
}

func parsePrices(data []byte) (Prices, error) {
	if len(data) > MaxPricesSize {
		return Prices{}, fmt.Errorf("%d bytes, and %d are allowed", len(data), MaxPricesSize)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var p Prices
	if err := d.Decode(&p); err != nil {
		return Prices{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Prices{}, errors.New("there is something after the table")
	}
	// What is missing shows in a second look only: in the first it is zero.
	var there struct {
		Regions map[string]map[string]map[string]any `json:"regions"`
	}
	if err := json.Unmarshal(data, &there); err != nil {
		return Prices{}, err
	}
	if _, err := time.Parse(time.DateOnly, p.Date); err != nil {
		return Prices{}, fmt.Errorf("date %q is not one like 2025-07-21", p.Date)
	}
	if len(p.Currency) != 3 || strings.Trim(p.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return Prices{}, fmt.Errorf("currency %q is not one like USD", p.Currency)
	}
	if len(p.Regions) == 0 {
		return Prices{}, errors.New("there is no region")
	}
	for region, classes := range p.Regions {
		if region == "" || len(classes) == 0 {
			return Prices{}, fmt.Errorf("region %q has no name, or no table class", region)
		}
		for class, price := range classes {
			if class == "" {
				return Prices{}, fmt.Errorf("region %q: a table class has no name", region)
			}
			for _, f := range price.fields() {
				n, ok := there.Regions[region][class][f.name].(float64)
				switch {
				case !ok:
					return Prices{}, fmt.Errorf("%s, %s: %s is missing", region, class, f.name)
				case n < 0 || n > mostPrice || n != f.value:
					return Prices{}, fmt.Errorf("%s, %s: %s is %v; it must not be negative, nor more than %g, nor appear twice", region, class, f.name, n, mostPrice)
				}
			}
		}
	}
	return p, nil
}

// mostPrice is one at which nobody buys.
const mostPrice = 1e12

type field struct {
	name  string
	value float64
}

func (p Price) fields() []field {
	return []field{
		{"read_million", p.ReadMillion},
		{"write_million", p.WriteMillion},
		{"read_unit_hour", p.ReadUnitHour},
		{"write_unit_hour", p.WriteUnitHour},
		{"storage_gb_month", p.StorageMonth},
	}
}

// For returns the price of a region and table class, "standard" for one.
func (p Prices) For(region, class string) (Price, error) {
	classes, ok := p.Regions[region]
	if !ok {
		return Price{}, fmt.Errorf("cost: there are no prices for region %q in the table of %s, which has %s",
			region, p.Date, strings.Join(slices.Sorted(maps.Keys(p.Regions)), ", "))
	}
	price, ok := classes[class]
	if !ok {
		return Price{}, fmt.Errorf("cost: there are no prices for table class %q in region %s, which has %s",
			class, region, strings.Join(slices.Sorted(maps.Keys(classes)), ", "))
	}
	return price, nil
}
