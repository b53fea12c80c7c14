//go:build unix

package blackbox_test

import (
	"log/slog"
	"testing"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
)

// startLambda runs the Lambda's bootstrap behind an HTTP API until the test ends. What it prints is shown if
// the test fails.
func startLambda(t testing.TB, dsn string, c gatewaytest.Config) *gatewaytest.Front {
	t.Helper()
	output := newLines()
	c.Bootstrap, c.Output = binary(t, "bootstrap"), output
	c.Log = slog.New(slog.NewJSONHandler(output, nil))
	c.Env = append(c.Env, "DATABASE_URL="+dsn, "LOG_FORMAT=json")
	front, err := gatewaytest.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		front.Close()
		if t.Failed() {
			t.Logf("the Lambda printed last:\n%s", output.last())
		}
	})
	return front
}
