//go:build unix

package web

import (
	"errors"
	"net"
	"syscall"
)

// awaitByte returns when there is something to read from a connection, which it leaves there.
func awaitByte(conn net.Conn) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		var first [1]byte
		n, _, err := syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK)
		if n == 0 && err == nil {
			err = net.ErrClosed // by the client
		}
		peeked = err
		return !errors.Is(err, syscall.EAGAIN)
	})
	return errors.Join(err, peeked)
}
