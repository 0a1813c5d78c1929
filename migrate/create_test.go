package migrate_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/memory"
	"github.com/seed-a7bee19b/session/migrate"
)

// Two servers create a record at one key, as they do for the index of an owner. At
// most one of them is told that it has done so, and all servers see its record.
func TestCreateInBoth(t *testing.T) {
	for _, tt := range []struct{ one, two migrate.Phase }{
		{migrate.Hold, migrate.Move}, {migrate.Move, migrate.Hold}, {migrate.Hold, migrate.Hold},
		{migrate.Move, migrate.Drain}, {migrate.Drain, migrate.Move},
	} {
		for f := range faults {
			for at := 1; at < 6; at++ {
				t.Run(fmt.Sprint(tt.one, tt.two, f, at), func(t *testing.T) {
					script := &script{}
					s := stores{stepped{&memory.Backend{}, script}, stepped{&memory.Backend{}, script}}
					one := open(t, s.fresh, s.from(), migrate.Config{Phase: tt.one})
					two := open(t, s.fresh, s.from(), migrate.Config{Phase: tt.two})
					now := time.Now()
					var stored []string
					unsure := ""
					create := func(b session.Backend, data string) {
						_, err := b.Save(t.Context(), "k", session.Record{Data: []byte(data), Created: now, Expires: now.Add(time.Hour)})
						switch {
						case err == nil:
							stored = append(stored, data)
						case errors.Is(err, errFault):
							unsure = data
						case !errors.Is(err, session.ErrConflict):
							t.Errorf("create: %v", err)
						}
					}
					script.at, script.fault = at, f
					script.others = func() { create(two, "two") }
					create(one, "one")
					script.finish()
					if len(stored) > 1 {
						t.Fatalf("both were told that they have created the record")
					}
					if len(stored) == 0 {
						create(two, "two") // one of them can go on
					}
					for range 2 {
						for _, b := range []session.Backend{one, two} {
							rec, err := b.Load(t.Context(), "k")
							if err != nil || string(rec.Data) != unsure && (len(stored) == 0 || string(rec.Data) != stored[0]) {
								t.Fatalf("read %q, %v; stored: %q, perhaps: %q", rec.Data, err, stored, unsure)
							}
						}
					}
				})
			}
		}
	}
}
