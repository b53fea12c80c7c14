// A function for tests of what runs functions: the path says what to do.
package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/event-piper/event-piper/functions/gateway"
)

func main() {
	if os.Getenv("EXIT") != "" {
		os.Exit(1)
	}
	invocations := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/echo/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		invocations++
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "1"})
		http.SetCookie(w, &http.Cookie{Name: "b", Value: "2"})
		_ = json.NewEncoder(w).Encode(map[string]any{
			"path":        r.URL.Path,
			"query":       r.URL.RawQuery,
			"header":      r.Header["X-Values"],
			"cookie":      r.Header["Cookie"],
			"body":        body,
			"pid":         os.Getpid(),
			"invocations": invocations,
			"setting":     os.Getenv("SETTING"),
			"home":        os.Getenv("HOME"),
		})
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte{0, 255})
	})
	// Tells its URL and waits to be let go, so that a test decides how long an invocation takes.
	mux.HandleFunc("/hold", func(_ http.ResponseWriter, r *http.Request) {
		res, err := http.Get(r.URL.Query().Get("until"))
		if err == nil {
			_ = res.Body.Close()
		}
	})
	mux.HandleFunc("/deadline", func(w http.ResponseWriter, r *http.Request) {
		deadline, _ := r.Context().Deadline()
		_, _ = io.WriteString(w, deadline.Format(time.RFC3339Nano))
	})
	mux.HandleFunc("/sleep", func(http.ResponseWriter, *http.Request) { select {} })
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(1) })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("hidden") })

	handle := gateway.Handler(mux, mux, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if os.Getenv("SIGTERM") != "" {
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() {
			_, _ = io.WriteString(os.Stdout, "leaving gently\n")
			os.Exit(0)
		}))
	}
	lambda.Start(handle)
}
