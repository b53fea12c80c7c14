package devdb

import "syscall"

// self names the running program itself, which an unprivileged child can execute even when the
// directories above the file are closed to it, and after the file was replaced.
func self() (string, error) { return "/proc/self/exe", nil }

// adopt makes this process the parent of the postmaster, which pg_ctl leaves behind as an orphan. So
// its end can be waited for, and it is no zombie in a container whose first process does not reap.
func adopt() {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER of prctl(2)
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
}
