//go:build !unix

package web

import "net"

// awaitByte leaves the waiting to net/http.
func awaitByte(net.Conn) error { return nil }
