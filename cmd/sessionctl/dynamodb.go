package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/logging"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

// dynamoStore is a store in DynamoDB.
type dynamoStore struct {
	*dynamodb.Backend
	client   *sdk.Client
	table    string
	region   string
	endpoint string // "" for that of AWS
	id       string // of the table, which no other ever has; "" if it is not known
	config   dynamodb.Config
	creds    aws.Credentials
	madeUp   bool // the credentials, for an endpoint on this machine
}

var _ store = (*dynamoStore)(nil)

// awsConfig returns the configuration by environment, profile and flags, and the
// endpoint if it is not that of AWS.
func (a *app) awsConfig(ctx context.Context) (cfg aws.Config, endpoint string, err error) {
	// As many connections as a sweep has workers: the SDK keeps 10 open.
	opts := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConnsPerHost = 256
		})),
		// DynamoDB Local sends errors without a checksum, and the SDK warns of
		// each; and of a machine that has no role.
		config.WithLogger(logging.Nop{}),
	}
	if a.region != "" {
		opts = append(opts, config.WithRegion(a.region))
	}
	if a.profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(a.profile))
	}
	cfg, err = within(ctx, func() (aws.Config, error) { return config.LoadDefaultConfig(ctx, opts...) }) // which reads files
	if ctx.Err() != nil {
		return cfg, "", context.Cause(ctx)
	}
	if err != nil {
		return cfg, "", &profileError{err}
	}
	if a.endpoint != "" {
		cfg.BaseEndpoint = &a.endpoint
	}
	return cfg, aws.ToString(sdk.NewFromConfig(cfg).Options().BaseEndpoint), nil
}

// openDynamoDB finds credentials and a region, and makes the backend.
func (a *app) openDynamoDB(ctx context.Context) (*dynamoStore, error) {
	cfg, endpoint, err := a.awsConfig(ctx)
	if err != nil {
		return nil, err
	}
	s := &dynamoStore{table: a.table, endpoint: endpoint, config: a.attributes}
	s.config.Table = a.table
	s.config.OnRequest = a.observe
	s.config.PHP = a.php.config()
	a.dynamo = s // what explains errors needs it
	if onLoopback(endpoint) {
		cfg.Region = cmp.Or(cfg.Region, "us-east-1")
		if a.profile == "" && !configured(cfg.Credentials) {
			cfg.Credentials = credentials.NewStaticCredentialsProvider("local", "local", "")
			s.madeUp = true
			if a.verbose {
				a.note("No AWS credentials are configured. %s is on this machine, so sessionctl makes some up.", endpoint)
			}
		}
	}
	if cfg.Region == "" {
		return nil, errNoRegion
	}
	s.region = cfg.Region

	// Here, and not in the first request, which would try again and again.
	credCtx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("no answer within 10 s"))
	defer cancel()
	if s.creds, err = cfg.Credentials.Retrieve(credCtx); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, &credentialsError{err}
	}
	s.client = sdk.NewFromConfig(cfg)
	config := s.config
	if config.PHP == (dynamodb.PHPConfig{}) && config.PrivateAttribute == dynamodb.DefaultPrivateAttribute {
		config.PrivateAttribute = "" // the default of the flag, which an ordinary table does not have
	}
	if s.Backend, err = dynamodb.NewFromClient(s.client, config); err != nil {
		return nil, &exitError{code: codeUsage, err: err}
	}
	return s, nil
}

// configured reports whether credentials come from anywhere but the last
// resort, the machine.
func configured(p aws.CredentialsProvider) bool {
	return p != nil && !aws.IsCredentialsProvider(p, (*ec2rolecreds.Provider)(nil))
}

func (s *dynamoStore) String() string { return s.where() }

func (s *dynamoStore) where() string {
	if s.endpoint != "" {
		return fmt.Sprintf("table %q in %s at %s", s.table, s.region, s.endpoint)
	}
	return fmt.Sprintf("table %q in %s", s.table, s.region)
}

// credentialsFrom says where the credentials are from.
func credentialsFrom(s *dynamoStore) string {
	if s.madeUp {
		return "made up, for an endpoint on this machine"
	}
	switch source := s.creds.Source; {
	case strings.HasPrefix(source, "EnvConfig"):
		return "from the environment"
	case strings.HasPrefix(source, "SharedConfig"):
		return "from a file in ~/.aws"
	case strings.HasPrefix(source, "SSO"):
		return "from SSO"
	case strings.HasPrefix(source, "AssumeRole"):
		return "of an assumed role"
	case strings.HasPrefix(source, "WebIdentity"):
		return "of a role with web identity"
	case strings.HasPrefix(source, "EC2Role"):
		return "of the role of this machine"
	case strings.HasPrefix(source, "CredentialsEndpoint"):
		return "of the role of this container"
	case strings.HasPrefix(source, "Process"):
		return "from a credential process"
	default:
		return "from " + cmp.Or(source, "the AWS configuration")
	}
}

func (s *dynamoStore) Close() error { return nil }

// About is one DescribeTable, which costs no capacity.
func (s *dynamoStore) About(ctx context.Context) (estimate, error) {
	t, err := s.describe(ctx)
	if err != nil {
		return estimate{}, err
	}
	return estimate{Records: aws.ToInt64(t.ItemCount), Bytes: aws.ToInt64(t.TableSizeBytes), Age: 6 * time.Hour}, nil
}
