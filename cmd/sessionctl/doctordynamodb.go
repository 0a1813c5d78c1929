package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/observe"
)

// dynamoDB examines a table. It ends early if the rest would mean nothing. It
// returns an error only for wrong usage.
func (d *doctor) dynamoDB(ctx context.Context) error {
	d.observe = func(_ context.Context, r observe.Request) {
		d.result.Requests++
	}
	s, err := d.openDynamoDB(ctx)
	var usage *exitError
	switch {
	case errors.As(err, &usage):
		return err
	case errors.Is(err, errNoRegion):
		d.fails(ctx, "region", err)
		return nil
	case err != nil:
		d.fails(ctx, "credentials", err)
		return nil
	}
	d.result.Store = s.String()
	d.says(isOK, "region", s.region+".", "")
	if ends := s.creds.Expires; s.creds.CanExpire {
		d.says(isOK, "credentials", fmt.Sprintf("%s, for another %s.", upper(credentialsFrom(s)), span(time.Until(ends))), "")
	} else {
		d.says(isOK, "credentials", upper(credentialsFrom(s))+".", "")
	}

	clock := newClock()
	table, err := d.describe(ctx, s, clock)
	code, _ := apiError(err)
	switch code {
	case "", "UnknownError", "UnrecognizedClientException", "ExpiredTokenException", "InvalidSignatureException":
		if err != nil {
			d.fails(ctx, "endpoint", err)
			d.clock(clock) // a clock that is wrong makes signatures so
			return nil
		}
	}
	d.says(isOK, "endpoint", "Answers.", "")

	if !d.table(ctx, s, table, err) {
		d.clock(clock)
		return nil
	}
	d.permissions(ctx, s)
	d.measure(ctx, onLoopback(s.endpoint), func() error {
		return d.get(ctx, s, clock)
	})
	d.clock(clock)
	if d.needs("Scan") {
		if php := d.sample(ctx, s); php || d.php.on() {
			d.onPHP(ctx, s)
		}
	}
	return nil
}

// describe asks about the table, once, and looks at the clock of the server.
func (d *doctor) describe(ctx context.Context, s *dynamoStore, clock *clock) (*types.TableDescription, error) {
	d.result.Requests++
	sent := time.Now()
	out, err := s.client.DescribeTable(ctx, &sdk.DescribeTableInput{TableName: &s.table}, d.once)
	if err != nil {
		clock.saw(sent, time.Now(), dateOfError(err), time.Second)
		return nil, err
	}
	clock.saw(sent, time.Now(), dateOf(out.ResultMetadata), time.Second)
	return out.Table, nil
}

// once switches the retries of the SDK off, which would distort what is
// measured.
func (d *doctor) once(o *sdk.Options) { o.Retryer = aws.NopRetryer{} }

func dateOf(m middleware.Metadata) time.Time {
	if resp, ok := awsmiddleware.GetRawResponse(m).(*smithyhttp.Response); ok && resp != nil {
		return date(resp.Header)
	}
	return time.Time{}
}

func dateOfError(err error) time.Time {
	var answered *smithyhttp.ResponseError
	if errors.As(err, &answered) && answered.Response != nil {
		return date(answered.Response.Header)
	}
	return time.Time{}
}

func date(h http.Header) time.Time {
	t, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return t
}

// table looks at the table, and reports whether there is any use in asking it
// for more.
func (d *doctor) table(ctx context.Context, s *dynamoStore, table *types.TableDescription, err error) bool {
	if code, _ := apiError(err); code == "AccessDeniedException" {
		d.denied(ctx, "DescribeTable", err)
		return true
	}
	if err != nil {
		d.fails(ctx, "table", err)
		return false
	}
	var (
		wrong *dynamodb.TableError
		ttl   = "On attribute " + fmt.Sprintf("%q.", s.config.ExpiresAttribute)
		usual = true
	)
	err = s.CheckTable(ctx)
	if errors.As(err, &wrong) {
		for _, p := range problems(wrong) {
			if strings.HasPrefix(p, "TTL") {
				ttl = ""
				d.says(isFail, "TTL", sentence(p), "")
				continue
			}
			usual = false
			d.says(isFail, "table", sentence(p), "")
		}
		err = wrong.Err
	}
	if usual {
		mode, read, write := billing(table)
		capacity := "on demand"
		if mode == "provisioned" {
			capacity = fmt.Sprintf("%s read and %s write units per second", count(read), count(write))
		}
		d.says(isOK, "table", fmt.Sprintf("%q can be used: %s, about %s items and %s.",
			s.table, capacity, count(aws.ToInt64(table.ItemCount)), size(aws.ToInt64(table.TableSizeBytes))), "")
	}
	switch code, _ := apiError(err); {
	case code == "AccessDeniedException":
		d.denied(ctx, "DescribeTimeToLive", err)
	case err != nil:
		d.fails(ctx, "TTL", err)
	case ttl != "":
		d.says(isOK, "TTL", ttl, "")
	}
	if !aws.ToBool(table.DeletionProtectionEnabled) && !onLoopback(s.endpoint) {
		d.says(isWarn, "protection", "The table is not protected against deletion.",
			"aws dynamodb update-table --table-name "+s.table+" --deletion-protection-enabled")
	}
	return s.ours(table)
}

// denied records what the credentials may not do.
func (d *doctor) denied(ctx context.Context, action string, err error) {
	what, todo := d.explain(ctx, err)
	if d.needs(action) {
		d.says(isFail, "permission", what, todo)
		return
	}
	d.says(isWarn, "permission", what, fmt.Sprintf("The role %s does not need it; the roles %s do: see \"sessionctl iam\".", d.role, whoNeeds(action)))
}

// permissions tries what can be tried without changing anything.
func (d *doctor) permissions(ctx context.Context, s *dynamoStore) {
	key := randomKey(s)
	never := aws.String("attribute_exists(#k) AND attribute_not_exists(#k)")
	names := map[string]string{"#k": s.config.KeyAttribute}
	unlessDenied := func(action string, consumed *types.ConsumedCapacity, err error) (string, bool) {
		d.result.Requests++
		var refused *types.ConditionalCheckFailedException
		switch code, _ := apiError(err); {
		case errors.As(err, &refused):
			d.result.WriteUnits++ // billed, and not told
		case code == "AccessDeniedException":
			d.denied(ctx, action, err)
			return "", false
		case err != nil:
			d.fails(ctx, "permission", err)
			return "", false
		}
		if consumed != nil {
			d.result.ReadUnits += unitsOf(consumed)
		}
		return action, true
	}
	var may []string
	try := func(action string, consumed *types.ConsumedCapacity, err error) {
		if name, ok := unlessDenied(action, consumed, err); ok {
			may = append(may, name)
		}
	}

	get, err := s.client.GetItem(ctx, &sdk.GetItemInput{
		TableName: &s.table, Key: key, ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}, d.once)
	if get == nil {
		get = &sdk.GetItemOutput{}
	}
	try("GetItem", get.ConsumedCapacity, err)
	_, err = s.client.UpdateItem(ctx, &sdk.UpdateItemInput{
		TableName: &s.table, Key: key, ConditionExpression: never, ExpressionAttributeNames: names,
	}, d.once)
	try("UpdateItem", nil, err)
	_, err = s.client.DeleteItem(ctx, &sdk.DeleteItemInput{
		TableName: &s.table, Key: key, ConditionExpression: never, ExpressionAttributeNames: names,
	}, d.once)
	try("DeleteItem", nil, err)
	scan, err := s.client.Scan(ctx, &sdk.ScanInput{
		TableName: &s.table, Limit: aws.Int32(1), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}, d.once)
	if scan == nil {
		scan = &sdk.ScanOutput{}
	}
	try("Scan", scan.ConsumedCapacity, err)
	if len(may) > 0 {
		d.says(isOK, "permission", "Granted: "+strings.Join(may, ", ")+".", "")
	}
}

// unitsOf returns the units in an answer, or 0 if they make no sense.
func unitsOf(consumed *types.ConsumedCapacity) float64 {
	if units := aws.ToFloat64(consumed.CapacityUnits); units >= 0 && units <= 1e9 {
		return units
	}
	return 0
}

func randomKey(s *dynamoStore) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		s.config.KeyAttribute: &types.AttributeValueMemberS{Value: "sessionctl-doctor-" + rand.Text()},
	}
}

// get is a read as Load sends it, of a key that is not there.
func (d *doctor) get(ctx context.Context, s *dynamoStore, clock *clock) error {
	d.result.Requests++
	sent := time.Now()
	out, err := s.client.GetItem(ctx, &sdk.GetItemInput{
		TableName: &s.table, Key: randomKey(s), ConsistentRead: aws.Bool(true), ReturnConsumedCapacity: types.ReturnConsumedCapacityTotal,
	}, d.once)
	if err != nil {
		return err
	}
	clock.saw(sent, time.Now(), dateOf(out.ResultMetadata), time.Second)
	if out.ConsumedCapacity != nil {
		d.result.ReadUnits += unitsOf(out.ConsumedCapacity)
	}
	return nil
}
