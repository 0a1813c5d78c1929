// Shop is a small web shop that shows sessions at work: log in, fill a cart in
// two tabs at once, log out, press back.
//
// It keeps its sessions in memory, or in DynamoDB:
//
//	go run ./shop
//	go run ./shop -store dynamodb -table sessions
//	go run ./shop -endpoint http://localhost:8000
//	go run ./shop -endpoint http://localhost:8000 -php http://localhost:8001
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/logging"

	"github.com/seed-a7bee19b/session"
	"github.com/seed-a7bee19b/session/backend/dynamodb"
	"github.com/seed-a7bee19b/session/backend/memory"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

const defaultAddr = "127.0.0.1:8080"

// run serves the shop until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("shop", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", defaultAddr, "`address` to serve on; port 0 picks a free one")
	store := flags.String("store", "memory", "where sessions are kept: memory or dynamodb")
	table := flags.String("table", dynamodb.DefaultTable, "DynamoDB `table`; it is created if necessary")
	endpoint := flags.String("endpoint", "", "`URL` of DynamoDB Local; implies -store dynamodb")
	phpServer := flags.String("php", "", "`URL` of a PHP server with the page in php/; its sessions are those of the shop, in DynamoDB")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; -help lists the flags", flags.Arg(0))
	}

	var backend session.Backend
	var at site
	tableConfig := dynamodb.Config{Table: *table}
	if *phpServer != "" {
		server, err := url.Parse(*phpServer)
		if err != nil || server.Host == "" {
			return fmt.Errorf("-php is %q; it must be the URL of a server", *phpServer)
		}
		at.php, tableConfig.PHP = server, phpSessions
	}
	switch {
	case *store == "dynamodb" || *endpoint != "":
		fmt.Fprintf(out, "Making sure that there is a DynamoDB table %q ...\n", *table)
		b, err := openTable(ctx, tableConfig, *endpoint)
		if err != nil {
			return err
		}
		backend, at.store = b, fmt.Sprintf("DynamoDB table %q", *table)
	case at.php != nil:
		return errors.New("-php needs -store dynamodb or -endpoint: PHP has its sessions in DynamoDB")
	case *store == "memory":
		backend, at.store = &memory.Backend{}, "memory"
	default:
		return fmt.Errorf("-store is %q; it can be memory or dynamodb", *store)
	}

	log := slog.New(slog.NewTextHandler(out, nil))
	handler, err := newShop(backend, at, log, ctx.Done())
	if err != nil {
		return err
	}
	listener, err := listen(ctx, *addr, *addr == defaultAddr, out)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe shop is open: http://%v (Ctrl-C closes it)\n", listener.Addr())
	fmt.Fprintf(out, "Sessions are kept in %s.\n", at.store)
	if at.store == "memory" {
		fmt.Fprint(out, `They end with this program. To keep them in DynamoDB, or in DynamoDB Local:

	make demo ARGS="-store dynamodb -table sessions"
	make demo ARGS="-endpoint http://localhost:8000"

`)
	}
	if err := serve(ctx, listener, handler); err != nil {
		return err
	}
	fmt.Fprintln(out, "The shop is closed.")
	return nil
}

// openTable returns a Backend over the table of c, and creates the table if
// necessary.
func openTable(ctx context.Context, c dynamodb.Config, endpoint string) (*dynamodb.Backend, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	if endpoint != "" {
		cfg.BaseEndpoint = &endpoint
		// DynamoDB Local accepts any region and any credentials, but requires
		// both.
		// It sends errors without a checksum, and the SDK warns about each.
		cfg.Logger = logging.Nop{}
		cfg.Region = cmp.Or(cfg.Region, "us-east-1")
		if os.Getenv("AWS_ACCESS_KEY_ID") == "" && os.Getenv("AWS_PROFILE") == "" {
			cfg.Credentials = aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("local", "local", ""))
		}
	}
	backend, err := dynamodb.New(cfg, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := backend.CreateTable(ctx, dynamodb.TableOptions{}); err != nil {
		return nil, err
	}
	return backend, nil
}

// listen listens on addr, or on a free port if that one is taken and the caller
// allows another.
func listen(ctx context.Context, addr string, mayMove bool, out io.Writer) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if mayMove && errors.Is(err, syscall.EADDRINUSE) {
		fmt.Fprintf(out, "%s is in use by another program; taking a free port instead.\n", addr)
		return lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	return listener, err
}

// serve answers requests until ctx ends, and then waits for the requests in
// flight.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}
