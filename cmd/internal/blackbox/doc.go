// Package blackbox holds tests of the programs as they are shipped: the binaries of cmd/stream, cmd/poll and
// functions/poll are built, run against a real PostgreSQL, and asked over real HTTP. They know nothing of the
// code inside; what they rely on is what an operator or a client may rely on, too.
package blackbox
