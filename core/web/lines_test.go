package web

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// TestRepeatedLinesAreLeftOut: rapid resets wrote 51,000 of them.
func TestRepeatedLinesAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, _ := newJournal()
		log := slog.New(limitLines(j)).With("instance", "a")
		for range 51_000 {
			log.Info("request", "status", 200, "remote", "192.0.2.1:1234", "consumer", "")
		}
		log.Info("request", "status", 200, "remote", "192.0.2.2:1234", "consumer", "") // another client's
		log.Info("request", "status", 401, "remote", "192.0.2.1:1235", "consumer", "")
		log.Info("request", "status", 200, "remote", "192.0.2.1:1236", "consumer", "toto")
		lines, _ := j.find("request")
		if len(lines) != 303 {
			t.Fatalf("want 300 lines of those that repeat, and all others, got %d", len(lines))
		}
		if got := lines[300].attrs["left_out"]; got != int64(50_700) {
			t.Errorf("want the next line to say how many were left out, got %v", got)
		}
		for range 1000 { // as when a crowd of one consumer's streams ends
			log.Info("request", "status", 200, "bytes", 100, "remote", "192.0.2.1:1234", "consumer", "toto")
		}
		if lines, _ = j.find("request"); len(lines) != 1303 {
			t.Errorf("want a line for every request that was served, got %d", len(lines)-303)
		}
		for range 1000 {
			log.Info("request", "status", 200, "bytes", 100, "remote", "192.0.2.1:1234", "consumer", "toto", "abandoned", true)
		}
		if lines, _ = j.find("request"); len(lines) != 1603 {
			t.Errorf("want 300 lines of those that were abandoned, got %d", len(lines)-1303)
		}
		time.Sleep(time.Second)
		for range 1000 {
			log.Info("request", "status", 200, "remote", "192.0.2.1:1234", "consumer", "")
		}
		if lines, _ = j.find("request"); len(lines) != 1703 {
			t.Errorf("want 100 more a second later, got %d", len(lines)-1603)
		}
	})
}
