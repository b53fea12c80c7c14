//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// processStat is what /proc/PID/stat tells of a process.
type processStat struct {
	parent int
	// own is its CPU time, children that of the children it has waited for.
	own, children time.Duration
}

func readStat(pid int) (processStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return processStat{}, err
	}
	// The name in parentheses may contain anything. Behind it comes field 3.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 15 {
		return processStat{}, fmt.Errorf("/proc/%d/stat is short", pid)
	}
	field := func(n int) int {
		v, _ := strconv.Atoi(fields[n-3])
		return v
	}
	return processStat{
		parent:   field(4),
		own:      time.Duration(field(14)+field(15)) * tick,
		children: time.Duration(field(16)+field(17)) * tick,
	}, nil
}

// treeCPU is the CPU time of a process and all that descend from it, those included that have ended and were
// waited for.
func treeCPU(pid int) time.Duration {
	stats := map[int]processStat{}
	children := map[int][]int{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if s, err := readStat(child); err == nil { // it may be gone by now
			stats[child] = s
			children[s.parent] = append(children[s.parent], child)
		}
	}
	var sum func(pid int) time.Duration
	sum = func(pid int) time.Duration {
		all := stats[pid].own + stats[pid].children
		for _, child := range children[pid] {
			all += sum(child)
		}
		return all
	}
	return sum(pid)
}

// machineCPU is the CPU time of everything on the machine.
func machineCPU() time.Duration {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(line) {
		const idle, iowait, steal = 4, 5, 8 // what follows steal is counted in what precedes it
		if i == 0 || i == idle || i == iowait || i >= steal {
			continue
		}
		ticks, _ := strconv.ParseInt(field, 10, 64)
		busy += time.Duration(ticks) * tick
	}
	return busy
}

// othersCPU is about the CPU time of the machine's processes that are not the benchmark's: the kernel counts
// the machine's in ticks, a process's exactly.
func othersCPU() time.Duration { return machineCPU() - treeCPU(os.Getpid()) }

// memory is the resident memory of a process, in bytes: now, and the most it has ever been.
func memory(pid int) (resident, peak int64) {
	status := keyed(fmt.Sprintf("/proc/%d/status", pid))
	return status["VmRSS"] << 10, status["VmHWM"] << 10
}

// kernelMemory is what the kernel holds of its own, in bytes: its slabs, and the pages of TCP's buffers.
func kernelMemory() int64 {
	return keyed("/proc/meminfo")["Slab"]<<10 + tcpPages()*int64(os.Getpagesize())
}

func tcpPages() int64 {
	b, _ := os.ReadFile("/proc/net/sockstat")
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "TCP:" {
			n, _ := strconv.ParseInt(fields[len(fields)-1], 10, 64)
			return n
		}
	}
	return 0
}

// keyed reads a file of lines such as "VmRSS:  1234 kB".
func keyed(path string) map[string]int64 {
	b, _ := os.ReadFile(path) //nolint:gosec // below /proc, where a process may be gone
	values := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		key, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			values[key], _ = strconv.ParseInt(fields[0], 10, 64)
		}
	}
	return values
}
