//go:build unix

package blackbox_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

// cloudWatchLine waits for a line of metrics in which a metric has a value, and returns the line.
func cloudWatchLine(t testing.TB, printed *lines, name string, value float64) (found map[string]any) {
	t.Helper()
	printed.await(t, "metrics for CloudWatch", func(line string) bool {
		found = nil
		if json.Unmarshal([]byte(line), &found) != nil || found["_aws"] == nil || found[name] != value {
			return false
		}
		if strings.Contains(line, "toto") {
			t.Errorf("want metrics that name no consumer, got %s", line)
		}
		return true
	})
	return found
}

// TestMetricsOfALambda: each request that is answered leaves a line, and a connection that was replaced is in it.
func TestMetricsOfALambda(t *testing.T) {
	t.Parallel()
	dsn := pgtest.New(t)
	output := newLines()
	front, err := gatewaytest.Start(t.Context(), gatewaytest.Config{
		Bootstrap: binary(t, "bootstrap"), Output: output, Log: slog.New(slog.DiscardHandler), Limit: 1,
		Env: []string{"DATABASE_URL=" + dsn, "LOG_FORMAT=json", "CLOUDWATCH_METRICS=orders-poll"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	db := connect(t, dsn)
	s := site{base: front.URL(), db: db}
	db.insert(t, "toto", "insert", `{}`)
	db.insert(t, "toto", "insert", `{}`)
	s.poll(t, "toto", "after=0").batch(t)
	line := cloudWatchLine(t, output, "Events", 2)
	if line["Service"] != "orders-poll" || line["Requests"] != 1.0 || line["ServerErrors"] != 0.0 || line["ReplacedConnections"] != 0.0 || line["Wait"].(float64) <= 0 {
		t.Errorf("want the metrics of one request, got %v", line)
	}

	pid, _, _ := lambdaSession(t, db)
	db.exec(t, "select pg_terminate_backend($1, 10000)", pid)
	s.poll(t, "toto", "after=1").batch(t)
	if line := cloudWatchLine(t, output, "Events", 1); line["ReplacedConnections"] != 1.0 || line["ServerErrors"] != 0.0 {
		t.Errorf("want one replaced connection and no error, got %v", line)
	}
}

// TestMetricsOfAContainer: from its start on it says how many sessions it has, by which its service is scaled.
func TestMetricsOfAContainer(t *testing.T) {
	t.Parallel()
	p := start(t, "stream", "DATABASE_URL="+pgtest.New(t), "CLOUDWATCH_METRICS=orders-stream")
	line := cloudWatchLine(t, p.stdout, "Sessions", 0)
	if line["Service"] != "orders-stream" || line["EventsRead"] != 0.0 || line["HeldBack"] != 0.0 {
		t.Errorf("want the metrics of an instance that has just started, got %v", line)
	}
	p.stop(t)
}
