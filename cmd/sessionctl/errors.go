package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/seed-a7bee19b/session/backend/dynamodb"
)

var errNoRegion = errors.New("no AWS region is set")

// profileError says that the files of the AWS command line cannot be used.
type profileError struct{ err error }

func (e *profileError) Error() string {
	return "the AWS configuration cannot be read: " + e.err.Error()
}
func (e *profileError) Unwrap() error { return e.err }

// credentialsError says that there are no credentials.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string {
	return "the AWS credentials could not be obtained: " + e.err.Error()
}
func (e *credentialsError) Unwrap() error { return e.err }

// report says what err means and what to do, and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	code := codeFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code = exit.code
	}
	if errors.Is(err, errPrinted) {
		return code
	}
	what, todo := a.explain(cmd.Context(), err)
	if code == codeUsage {
		what, todo = sentence(suggestion(plain(err))), fmt.Sprintf("%q shows the usage.", cmd.CommandPath()+" --help")
	}
	a.note("sessionctl: %s", what)
	if todo != "" {
		a.note("%s", todo)
	}
	if a.verbose && sentence(err.Error()) != what {
		a.note("Cause: %v", err)
	}
	return code
}

// explain puts err into a sentence that says what happened, and one that says
// what to do, "" if there is no telling.
func (a *app) explain(ctx context.Context, err error) (what, todo string) {
	var words *wordsError
	if errors.As(err, &words) {
		return words.what, words.todo
	}
	for _, explain := range []func(error) (what, todo string){
		func(err error) (string, string) { return explainEnd(ctx, err) },
		explainIndex,
		a.explainSetup,
		a.explainTable,
		a.explainDynamoDB,
		a.explainRedis,
		a.explainNetwork,
	} {
		if what, todo := explain(err); what != "" {
			return what, todo
		}
	}
	return sentence(plain(err)), ""
}

// explainEnd is about commands that were stopped.
func explainEnd(ctx context.Context, err error) (what, todo string) {
	switch {
	case outOfTime(ctx, err):
		return "Stopped: the time of --timeout is over.", "Use a longer --timeout, or none."
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return "Stopped before the end.", ""
	}
	return "", ""
}

// outOfTime reports whether err comes from --timeout. The backend gives up a
// little earlier if a pause that it is to make would not fit.
func outOfTime(ctx context.Context, err error) bool {
	const longestPause = 5 * time.Second
	deadline, ok := ctx.Deadline()
	return errors.Is(err, errTimeout) || errors.Is(context.Cause(ctx), errTimeout) ||
		ok && errors.Is(err, context.DeadlineExceeded) && time.Until(deadline) < longestPause
}

// explainSetup is about what has to be there before the first request.
func (a *app) explainSetup(err error) (what, todo string) {
	var (
		profile     *profileError
		missing     config.SharedConfigProfileNotExistError
		credentials *credentialsError
	)
	switch {
	case errors.Is(err, errNoRegion):
		return "No AWS region is set.", "Set --region or AWS_REGION, or a region in your AWS profile."
	case errors.As(err, &missing):
		return fmt.Sprintf("There is no AWS profile %q.", missing.Profile), "Correct --profile or AWS_PROFILE; \"aws configure list-profiles\" lists the existing ones."
	case errors.As(err, &profile):
		return sentence(profile.Error()), "Correct the files in ~/.aws, or those that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name."
	case errors.As(err, &credentials):
		text := credentials.Error()
		switch {
		case strings.Contains(text, "SSO") || strings.Contains(text, "sso"):
			return "The AWS credentials could not be renewed: the SSO session has ended.", "Run \"aws sso login\", with the same profile."
		case strings.Contains(text, "ExpiredToken"):
			return "The AWS credentials have expired.", "Get new ones, and try again."
		case strings.Contains(text, "IMDS"):
			return "There are no AWS credentials: none in the environment, in a profile, or from the machine.",
				"Set --profile or AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role."
		}
		return "The AWS credentials could not be obtained.",
			"Check --profile, AWS_PROFILE and the variables AWS_*. \"aws sts get-caller-identity\" tries them, and --verbose prints the cause."
	}
	return "", ""
}

// explainTable puts what the backend found out about a table into the terms
// of this program.
func (a *app) explainTable(err error) (what, todo string) {
	var table *dynamodb.TableError
	if !errors.As(err, &table) {
		return "", ""
	}
	if code, _ := apiError(err); code == "ResourceNotFoundException" {
		return a.noTable()
	}
	problems := problems(table)
	return fmt.Sprintf("The table %q cannot be used as it is: %s.", table.Table, strings.Join(problems, "; ")), ""
}

func problems(table *dynamodb.TableError) []string {
	var found []string
	for _, p := range table.Problems {
		found = append(found, inFlags.Replace(p))
	}
	return found
}

// plain is the text of err in terms of this program, without the name of the
// package that it is from.
func plain(err error) string {
	text := inFlags.Replace(err.Error())
	for _, name := range []string{"session: ", "admin: ", "dynamodb: ", "redisstore: ", "redis: ", "cost: "} {
		text = strings.TrimPrefix(text, name)
	}
	return text
}

// inFlags turns what the backend advises a programmer to do into what the
// user of this program can.
var inFlags = strings.NewReplacer(
	"Config.KeyAttribute", "--key-attribute",
	"Config.DataAttribute", "--data-attribute",
	"Config.CreatedAttribute", "--created-attribute",
	"Config.VersionAttribute", "--version-attribute",
	"Config.LockAttribute", "--lock-attribute",
	"Config.LockUntilAttribute", "--lock-until-attribute",
	"Config.ExpiresAttribute", "--expires-attribute",
	"Config.Table", "--table",
	"Config.Prefix", "--prefix",
	"SweepOptions.Grace", "--grace",
	"SweepOptions.ReadUnits", "--read-units",
	"SweepOptions.Segments", "--segments",
	"SweepOptions.Workers", "--workers",
	"SweepOptions.BatchSize", "--batch-size",
	"SweepOptions.DryRun", "--dry-run",
	"SweepOptions.KeyPrefix", "--key-prefix",
	"SweepOptions.Foreign", "--foreign",
	"SweepOptions.Resume", "--resume",
	"and WriteUnits", "and --write-units",
	"ListOptions.Segments", "--segments",
	"ListOptions.Workers", "--segments",
	"ListOptions.KeyPrefix", "--key-prefix",
	"as CreateTable does", "as \"sessionctl table create\" does",
	"CreateTable", "\"sessionctl table create\"",
	"CheckTable tells", "\"sessionctl table check\" tells",
)

func (a *app) noTable() (what, todo string) {
	s := a.dynamo
	todo = "Create it with \"sessionctl table create\", or correct --table or --region."
	if onLoopback(s.endpoint) {
		todo += " DynamoDB Local has separate tables for each region and access key, unless it was started with -sharedDb."
	}
	return fmt.Sprintf("There is no %s.", s.where()), todo
}

// explainDynamoDB is about what DynamoDB answered.
func (a *app) explainDynamoDB(err error) (what, todo string) {
	code, message := apiError(err)
	s := a.dynamo
	if code == "" || s == nil {
		return "", ""
	}
	var (
		op       *smithy.OperationError
		response interface{ HTTPStatusCode() int }
		action   = "this"
		status   int
	)
	if errors.As(err, &op) {
		action = "dynamodb:" + op.OperationName
	}
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch code {
	case "ResourceNotFoundException":
		return a.noTable()
	case "ResourceInUseException":
		return fmt.Sprintf("The %s is busy: it is being created, changed or deleted.", s.where()), "Try again in a minute."
	case "AccessDeniedException":
		what = fmt.Sprintf("The AWS credentials do not allow %s on %s.", action, s.where())
		if strings.Contains(message, "explicit deny") {
			return what, "A policy denies it explicitly: ask the owner of the account. --verbose prints what AWS says."
		}
		return what, a.grant(action)
	case "UnrecognizedClientException":
		if onLoopback(s.endpoint) {
			return "DynamoDB Local refuses the access key.", "It must consist of letters and digits: correct AWS_ACCESS_KEY_ID, or unset it."
		}
		return fmt.Sprintf("AWS does not know the access key or the token of the credentials (%s).", credentialsFrom(s)),
			"Check that they are those of this account and partition, and have not been deleted."
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired":
		return fmt.Sprintf("The AWS credentials (%s) have expired.", credentialsFrom(s)), "Get new ones, as with \"aws sso login\", and try again."
	case "InvalidSignatureException", "SignatureDoesNotMatch":
		if strings.Contains(message, "expired") || strings.Contains(message, "not yet current") {
			return "AWS refuses the signature because the clock of this machine is wrong.", "Set it, preferably by NTP. \"sessionctl doctor\" measures the error."
		}
		return fmt.Sprintf("The secret access key of the credentials (%s) is wrong.", credentialsFrom(s)), "Correct AWS_SECRET_ACCESS_KEY, or the profile."
	case "MissingAuthenticationTokenException", "MissingAuthenticationToken", "IncompleteSignatureException":
		return "AWS does not accept the credentials: they are incomplete.", "Set the access key and the secret access key, and the session token if there is one."
	case "LimitExceededException":
		return "AWS refuses it because the account has reached a limit: " + sentence(message), "Wait until other tables have been created or changed, and try again."
	case "ValidationException":
		switch {
		case strings.Contains(message, "protected against deletion"):
			return fmt.Sprintf("The %s is protected against deletion.", s.where()),
				"To delete it, first run: aws dynamodb update-table --table-name " + s.table + " --no-deletion-protection-enabled"
		case strings.Contains(message, "modified multiple times"):
			return "The TTL of the table was changed a moment ago, and DynamoDB allows one change an hour.", "Try again in an hour."
		case strings.Contains(strings.ToLower(message), "key"):
			return fmt.Sprintf("The key of %s does not seem to be %q of type S.", s.where(), s.config.KeyAttribute),
				"\"sessionctl table check\" prints its name; pass it with --key-attribute."
		}
		return fmt.Sprintf("DynamoDB refuses %s: %s", action, sentence(message)), ""
	}
	switch {
	case throttled(err):
		return fmt.Sprintf("DynamoDB throttles requests: the capacity of %s, or of the account, is used up.", s.where()),
			"Try again later, use less (--read-units, --write-units), or raise the capacity of the table."
	case status >= 500:
		return fmt.Sprintf("DynamoDB failed: it answered %d, after several attempts.", status), "Try again. If it goes on, see the AWS Health Dashboard."
	case code == "UnknownError":
		return fmt.Sprintf("The server at %s is not DynamoDB.", cmp.Or(s.endpoint, "the endpoint")), "Correct --endpoint or AWS_ENDPOINT_URL."
	}
	return fmt.Sprintf("DynamoDB refuses %s: %s: %s", action, code, sentence(message)), ""
}

// explainRedis is about what Redis answered.
func (a *app) explainRedis(err error) (what, todo string) {
	var answer goredis.Error
	if a.redis == nil || !errors.As(err, &answer) {
		return "", ""
	}
	text := answer.Error()
	for _, e := range []struct{ code, what, todo string }{
		{"NOAUTH", "Redis wants a password.", "Put it into the URL, redis://user:password@host:port, preferably in REDIS_URL."},
		{"WRONGPASS", "Redis does not accept the user or the password.", "Correct them in --redis or REDIS_URL."},
		{"ERR AUTH", "Redis does not accept a password: it has none.", "Take it out of --redis or REDIS_URL."},
		{"NOPERM", "The user of Redis may not do this: " + sentence(strings.TrimPrefix(text, "NOPERM ")), "Grant it: \"sessionctl iam " + a.redisRole() + " --backend redis\" prints the rule."},
		{"LOADING", "Redis has just started and is still loading its data.", "Try again in a moment."},
		{"READONLY", "This Redis is a replica, and refuses writes.", "Give the URL of the master."},
		{"MOVED", "This Redis is part of a cluster.", "Add --redis-cluster."},
		{"CLUSTERDOWN", "The Redis cluster is down: a part of it has no master.", "See \"redis-cli cluster info\"."},
		{"ERR This instance has cluster support disabled", "This Redis is not part of a cluster.", "Leave out --redis-cluster."},
		{"MISCONF", "Redis cannot write to its disk, and refuses changes until it can.", "Look at its log, and at the disk."},
		{"OOM", "Redis has reached maxmemory.", "Give it more memory, or see what fills it with \"sessionctl doctor\"."},
		{"BUSY", "A script blocks Redis.", "See SCRIPT KILL."},
		{"ERR max number of clients", "Redis has as many connections as its maxclients allows.", "CLIENT LIST shows who has them."},
		{"ERR unknown command", "This Redis does not know, or does not allow, a command that sessionctl needs: " + sentence(text), ""},
	} {
		if strings.HasPrefix(text, e.code) {
			return e.what, e.todo
		}
	}
	return "", ""
}

// explainNetwork is about requests without an answer.
func (a *app) explainNetwork(err error) (what, todo string) {
	var (
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		dial    *net.OpError
		timed   net.Error
		broken  *smithy.DeserializationError
		flag    = "--region"
		without string
		server  = "DynamoDB"
		where   string
	)
	switch {
	case a.dynamo != nil:
		if where = a.dynamo.endpoint; where != "" {
			flag, without = "--endpoint", "http:// is for a server without TLS, https:// for one with it."
		} else {
			where = "the endpoint of " + a.dynamo.region
		}
	case a.redis != nil:
		server, flag, where = "Redis", "--redis or REDIS_URL", a.redis.addr
		without = "redis:// is for a server without TLS, rediss:// for one with it."
	default:
		return "", ""
	}
	switch {
	case errors.As(err, &dns):
		what = fmt.Sprintf("The host name %q is not known.", dns.Name)
		if a.dynamo != nil && a.dynamo.endpoint == "" {
			return what, fmt.Sprintf("Is there a region %q? Correct --region, or AWS_REGION, or check the network and its DNS.", a.dynamo.region)
		}
		return what, "Correct " + flag + ", or check the network and its DNS."
	case errors.As(err, &cert):
		return fmt.Sprintf("The certificate of %s cannot be trusted: %v.", where, cert.Err),
			"If it is your own proxy or server, put the certificate of its authority into AWS_CA_BUNDLE or SSL_CERT_FILE."
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("%s does not speak TLS.", upper(where)), strings.TrimSuffix("Correct "+flag+": "+without, ": ")
	case errors.As(err, &dial) && dial.Op == "dial" && !dial.Timeout():
		todo = "Correct " + flag + ", or check the network."
		if onLoopback(where) || strings.HasPrefix(where, "127.") {
			todo = "Start " + server + " there, or correct " + flag + "."
			if server == "DynamoDB" {
				todo = "Start DynamoDB Local (docker run -p 8000:8000 amazon/dynamodb-local), or correct --endpoint."
			}
		}
		return fmt.Sprintf("Nothing answers at %s: %s", where, rootCause(dial).Error()+"."), todo
	case errors.As(err, &timed) && timed.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("%s at %s did not answer in time.", server, strings.TrimPrefix(where, "the endpoint of ")),
			"Check the network: firewall, proxy, security group; and " + flag + "."
	case errors.As(err, &broken):
		return fmt.Sprintf("The server at %s is not %s, or its answer was cut.", where, server), "Correct " + flag + "."
	case errors.As(err, &dial), strings.Contains(err.Error(), "EOF"):
		return fmt.Sprintf("The connection to %s broke.", where), "Try again. If it goes on, check the network, and whether the server is " + server + "."
	}
	return "", ""
}

// suggestion puts what cobra suggests into one line.
func suggestion(text string) string {
	text, meant, ok := strings.Cut(text, "\n\nDid you mean this?")
	if !ok {
		return text
	}
	return text + ": did you mean " + strings.Join(strings.Fields(meant), " or ") + "?"
}

func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// apiError returns what AWS said, if it said something.
func apiError(err error) (code, message string) {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode(), api.ErrorMessage()
	}
	return "", ""
}

func throttled(err error) bool {
	return retry.ThrottleErrorCode{Codes: retry.DefaultThrottleErrorCodes}.IsErrorThrottle(err) == aws.TrueTernary
}

// sentence makes one of a text: a capital letter, and a full stop.
func sentence(text string) string {
	text = strings.TrimSpace(oneLine(text))
	if text == "" || strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") {
		return upper(text)
	}
	return upper(text) + "."
}

func upper(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	if strings.HasPrefix(text, "http") || strings.HasPrefix(text, "--") {
		return text
	}
	return string(unicode.ToUpper(r)) + text[n:]
}
