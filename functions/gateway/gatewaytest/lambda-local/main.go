//go:build unix

// Lambda-local serves a function's bootstrap as an API Gateway HTTP API would, on this machine, without
// Docker:
//
//	lambda-local build/poll/bootstrap
//
// The bootstrap must be built for this machine. It gets this process's environment, is frozen between
// requests, and what it prints appears here. PORT (4002), LIMIT (10, environments at a time), TIMEOUT (30s)
// and STAGE (none) say how to serve. SIGINT and SIGTERM end it with exit code 0, a wrong start with 1.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "lambda-local:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("want one argument, the bootstrap to serve")
	}
	if _, err := os.Stat(os.Args[1]); err != nil {
		return fmt.Errorf("find the bootstrap: %w", err)
	}
	limit, err := strconv.Atoi(cmp.Or(os.Getenv("LIMIT"), "10"))
	if err != nil || limit < 1 {
		return fmt.Errorf("LIMIT takes a positive number, not %q", os.Getenv("LIMIT"))
	}
	timeout, err := time.ParseDuration(cmp.Or(os.Getenv("TIMEOUT"), "30s"))
	if err != nil || timeout <= 0 {
		return fmt.Errorf("TIMEOUT takes a positive duration such as 30s, not %q", os.Getenv("TIMEOUT"))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	front, err := gatewaytest.Start(ctx, gatewaytest.Config{
		Bootstrap: os.Args[1],
		Env:       os.Environ(),
		Limit:     limit,
		Timeout:   timeout,
		Stage:     os.Getenv("STAGE"),
		Freeze:    true,
		Addr:      net.JoinHostPort("127.0.0.1", cmp.Or(os.Getenv("PORT"), "4002")),
		Output:    os.Stderr,
		Log:       slog.Default(),
	})
	if err != nil {
		return err
	}
	fmt.Printf("%s as Lambda behind an HTTP API, up to %d environments. Try:\n\n", os.Args[1], limit)
	fmt.Printf("  curl -i -H 'X-Consumer-Id: toto' '%s/events/poll?after=0&wait=10'\n\n", front.URL())
	<-ctx.Done()
	front.Close()
	return nil
}
