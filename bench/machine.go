//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// printMachine says what the figures below it were measured on.
func (b *bench) printMachine() {
	_, _ = fmt.Fprintf(b.out, "%s, %d CPUs, %s of memory\nLinux %s, TCP %s, %s\nPostgreSQL %s, %s\n",
		cpuModel(), runtime.NumCPU(), megabytes(keyed("/proc/meminfo")["MemTotal"]<<10),
		release(), congestionControl(), runtime.Version(), b.database.version, b.database.settings())
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// congestionControl decides how soon a write of the server is on its way, on the loopback interface, too.
func congestionControl() string {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return strings.TrimSpace(string(b))
}

func release() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return "?"
	}
	var b strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c)) //nolint:gosec // int8 or uint8, by architecture
	}
	return b.String()
}
