// Package emf writes metrics to the log as CloudWatch extracts them from there, so that a function or a task needs
// neither a call to AWS nor an agent beside it:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
//
// The only dimension is the service. None says who a consumer is or what an event is about: each value of a
// dimension would be a metric of its own, that is paid for.
package emf

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/event-piper/event-piper/core/settings"
)

// Namespace is where CloudWatch shows the metrics.
const Namespace = "EventPiper"

// maxService is the specification's bound for a name of a dimension, and enough for the value of one.
const maxService = 250

// Log writes metrics if its setting says so; the zero Log writes none.
type Log struct {
	service string
	out     io.Writer
}

// Define defines the setting.
func (l *Log) Define(s *settings.Set) {
	const name = "CLOUDWATCH_METRICS"
	l.out = os.Stdout
	s.String(&l.service, name, "", "Name of the service under which a few metrics go to standard output, as lines that CloudWatch understands (Embedded Metric Format); none unless given.")
	s.Check(name, func() error {
		if len(l.service) > maxService || strings.ContainsFunc(l.service, func(c rune) bool { return c < ' ' || c > '~' }) {
			return fmt.Errorf("takes at most %d printable ASCII characters", maxService)
		}
		return nil
	})
}

// Value is a metric's value.
type Value struct {
	Name, Unit string
	Value      float64
}

// Count is a number of things.
func Count[T int | int64](name string, n T) Value { return Value{name, "Count", float64(n)} }

// Milliseconds is a length of time.
func Milliseconds(name string, d time.Duration) Value {
	return Value{name, "Milliseconds", float64(d.Microseconds()) / 1e3}
}

// Answer is what an answered request counts for.
func Answer(status int, events int64) []Value {
	failed := 0
	if status >= 500 {
		failed = 1
	}
	return []Value{Count("Requests", 1), Count("ServerErrors", failed), Count("Events", events)}
}

// Write writes one line. A line that cannot be written is lost, as the log's are.
func (l *Log) Write(values ...Value) {
	if l.service == "" {
		return
	}
	type metric struct{ Name, Unit string }
	metrics := make([]metric, len(values))
	line := map[string]any{"Service": l.service}
	for i, v := range values {
		metrics[i] = metric{v.Name, v.Unit}
		line[v.Name] = v.Value
	}
	line["_aws"] = map[string]any{
		"Timestamp": time.Now().UnixMilli(),
		"CloudWatchMetrics": []any{map[string]any{
			"Namespace": Namespace, "Dimensions": [][]string{{"Service"}}, "Metrics": metrics,
		}},
	}
	_ = json.NewEncoder(l.out).Encode(line)
}

// Every writes what read returns at once and after each interval, until the returned function is called, which waits
// for the end.
func (l *Log) Every(interval time.Duration, read func() []Value) (stop func()) {
	if l.service == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			l.Write(read()...)
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}
