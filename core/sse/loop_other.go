//go:build !linux

package sse

import "net/http"

// loop is the event loop of Linux; elsewhere every stream has its handler's goroutine.
type loop struct{}

func newLoop(*Server) (*loop, error) { return &loop{}, nil }

func (*loop) accepts(*http.Request) bool { return false }

func (*loop) serve(http.ResponseWriter, *http.Request, ask) error { return nil }

func (*loop) close() {}
