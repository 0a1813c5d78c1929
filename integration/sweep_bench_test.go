package integration

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/seed-a7bee19b/session/admin"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

var sweepRows = flag.Int("sweep.rows", 60_000, "rows of the table that is swept in the large test and the benchmark, half of them expired")

// BenchmarkSweep sweeps two tables with the same rows: with Sweep, and with a
// garbage collector that goes through the table page by page and deletes in
// batches of 25, one after the other. That collector is only correct because
// there are no other writers here.
func BenchmarkSweep(b *testing.B) {
	var took, units [2]float64
	for range b.N {
		for i, sweep := range []func(context.Context, dynamodb.Config, time.Time) (deleted int, units float64, err error){
			sweepInParallel, sweepInSequence,
		} {
			b.StopTimer()
			c, rows := newSweptTable(b), sweepTable(*sweepRows, len(typical))
			fill(b, c.Table, rows.items())
			b.StartTimer()
			began := time.Now()
			deleted, used, err := sweep(b.Context(), c, rows.cutoff())
			took[i] += time.Since(began).Seconds()
			units[i] += used
			if err != nil || deleted != *sweepRows/2 {
				b.Fatalf("way %d: %d deleted of %d rows, %d left: %v", i, deleted, *sweepRows, len(keysOf(b, c.Table)), err)
			}
		}
	}
	n := float64(b.N)
	b.ReportMetric(took[0]/n, "s/sweep")
	b.ReportMetric(took[1]/n, "s/sequence")
	b.ReportMetric(took[1]/took[0], "times-faster")
	b.ReportMetric(units[0]/n, "units/sweep")
	b.ReportMetric(units[1]/n, "units/sequence")
	b.ReportMetric(0, "ns/op")
}

func sweepInParallel(ctx context.Context, c dynamodb.Config, _ time.Time) (int, float64, error) {
	cfg := awsConfig(local.Endpoint)
	cfg.HTTPClient = keptOpen
	backend, err := dynamodb.New(cfg, c)
	if err != nil {
		return 0, 0, err
	}
	r, err := backend.Sweep(ctx, admin.SweepOptions{})
	return int(r.Deleted), r.ReadUnits + r.WriteUnits, err
}

func sweepInSequence(ctx context.Context, c dynamodb.Config, cutoff time.Time) (deleted int, units float64, err error) {
	var waiting []types.WriteRequest
	flush := func(least int) error {
		for len(waiting) > 0 && len(waiting) >= least {
			n := min(25, len(waiting))
			out, err := client().BatchWriteItem(ctx, &sdk.BatchWriteItemInput{
				RequestItems: map[string][]types.WriteRequest{c.Table: waiting[:n]}, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
			})
			if err != nil {
				return err
			}
			deleted += n - len(out.UnprocessedItems[c.Table])
			waiting = append(waiting[n:], out.UnprocessedItems[c.Table]...)
			for _, used := range out.ConsumedCapacity {
				units += *used.CapacityUnits
			}
		}
		return nil
	}
	pages := sdk.NewScanPaginator(client(), &sdk.ScanInput{
		TableName:                 &c.Table,
		FilterExpression:          aws.String("#e < :cutoff AND attribute_not_exists(#l)"),
		ProjectionExpression:      aws.String("id"),
		ExpressionAttributeNames:  map[string]string{"#e": "expires", "#l": "lock"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":cutoff": epochSeconds(cutoff)},
		ReturnConsumedCapacity:    types.ReturnConsumedCapacityTotal,
	})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return deleted, units, err
		}
		units += *out.ConsumedCapacity.CapacityUnits
		for _, it := range out.Items {
			waiting = append(waiting, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: it}})
		}
		if err := flush(25); err != nil {
			return deleted, units, err
		}
	}
	err = flush(1)
	return deleted, units, err
}
