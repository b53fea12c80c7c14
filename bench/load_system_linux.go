package main

import (
	"syscall"
	"time"
	"unsafe"
)

// bindAddressNoPort leaves the choice of a port to connect(2): IP_BIND_ADDRESS_NO_PORT, which syscall lacks.
const bindAddressNoPort = 24

// receive is read(2) without telling Go's scheduler, as syscall.Read does: a socket that does not block takes
// less time than that. The buffer must not be empty.
func receive(fd int32, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))) //nolint:gosec // as package unsafe allows
	return int(n), errno
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
