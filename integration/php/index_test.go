package php

import (
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// The records of the index are under keys that no visitor of PHP's can name.
func TestIndexIsOutOfReach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		beside dynamodb.PHPConfig
		site   func(table string) site
	}{
		{"versioned", besideVersioned, func(table string) site { return versioned(table, true) }},
		{"stock", besideStock, func(table string) site { return stock(table, true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := newTable(t)
			m := manager(t, table, tt.beside, session.Config{Owners: session.OwnersConfig{Index: true}})
			w := start(t, tt.site(table))
			w.run(t, open(id1)+`$_SESSION['n'] = 1; session_write_close();`)
			s := saved(t, m, id1, func(s *session.Session) error { return s.Login("ann") })
			out, err := client().Scan(t.Context(), &sdk.ScanInput{TableName: &table})
			if err != nil {
				t.Fatal(err)
			}
			tried := 0
			for _, item := range out.Items {
				id := strings.TrimPrefix(item["id"].(*types.AttributeValueMemberS).Value, "PHPSESSID_")
				if !strings.Contains(id, "owner.") {
					continue
				}
				tried++
				w.page(t, open(id)+`$_SESSION['n'] = 1; session_write_close();`)
				w.page(t, open(id)+`session_destroy();`)
			}
			if tried != 1 {
				t.Fatalf("there are %d records of owners", tried)
			}
			if err := m.Revoke(t.Context(), session.User("ann")); err != nil {
				t.Errorf("Revoke: %v", err)
			}
			none(t, m, s.Token().Reveal())
		})
	}
}
