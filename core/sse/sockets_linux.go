package sse

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// sockets are connections that were taken over from net/http, and one epoll(7) instance that watches them. Nothing else
// knows of either.
type sockets struct {
	// Set at construction.
	log *slog.Logger
	// news is told that a stream's socket can take more, or that its client has left. It must not block.
	news    func(fs *fdStream, left bool)
	poll    *os.File // the epoll instance, itself watched by the runtime's poller
	epoll   int
	watcher sync.WaitGroup

	mu sync.Mutex
	// Guarded by mu.
	closed bool
	byFD   map[int32]*fdStream
	taken  uint32 // how many there have been, to tell the users of one descriptor apart
}

// socket is a connection as a non-blocking file descriptor.
type socket struct{ fd, generation int32 }

// sendBuffer bounds what the kernel takes for a client that does not read.
const sendBuffer = 256 << 10

func openSockets(log *slog.Logger, news func(fs *fdStream, left bool)) (*sockets, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := syscall.SetNonblock(epoll, true); err != nil {
		_ = syscall.Close(epoll)
		return nil, fmt.Errorf("set the epoll descriptor non-blocking: %w", err)
	}
	s := &sockets{log: log, news: news, poll: os.NewFile(uintptr(epoll), "epoll"), epoll: epoll, byFD: map[int32]*fdStream{}}
	s.watcher.Go(s.run)
	return s, nil
}

// close stops watching. No socket may be added any more.
func (s *sockets) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.poll.Close()
	s.watcher.Wait()
}

// TCP_USER_TIMEOUT and TCP_NOTSENT_LOWAT of tcp(7), which package syscall lacks.
const (
	tcpUserTimeout  = 18
	tcpNotSentLowat = 25
)

// unsent bounds what the kernel takes of a stream that it cannot send yet. What is on its way to a client far off needs
// the rest of the send buffer; to one that does not read, nothing is on its way.
const unsent = 64 << 10

// hijack returns the connection as a non-blocking file descriptor of its own, apart from net/http and from
// the runtime's poller. The kernel gives the connection up when what was sent stays unacknowledged for half as
// long again as the timeout: a client that vanished without a word would hold its session for a quarter of an hour
// otherwise. One that takes nothing is to be ended, and counted, by whoever writes to it, so the kernel waits for
// longer: it gives up a client whose window stays closed, too.
func hijack(w http.ResponseWriter, timeout time.Duration) (socket, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return socket{}, fmt.Errorf("hijack: %w", err)
	}
	defer func() { _ = conn.Close() }() // the duplicate keeps the connection open
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return socket{}, fmt.Errorf("hijack: a %T is no TCP connection", conn)
	}
	if err := tcp.SetWriteBuffer(sendBuffer); err != nil {
		return socket{}, fmt.Errorf("set the send buffer: %w", err)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return socket{}, fmt.Errorf("hijack: %w", err)
	}
	var fd int
	var dupErr error
	err = raw.Control(func(original uintptr) {
		dupErr = syscall.SetsockoptInt(int(original), syscall.IPPROTO_TCP, tcpUserTimeout, int((timeout + timeout/2).Milliseconds()))
		if dupErr != nil {
			return
		}
		dupErr = syscall.SetsockoptInt(int(original), syscall.IPPROTO_TCP, tcpNotSentLowat, unsent)
		if dupErr != nil {
			return
		}
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, dupErr = syscall.Dup(int(original)); dupErr == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err := errors.Join(err, dupErr); err != nil {
		return socket{}, fmt.Errorf("duplicate the connection: %w", err)
	}
	return socket{fd: int32(fd)}, nil //nolint:gosec // descriptors are small
}

// watch has epoll watch a stream's socket. Edge-triggered: a client that leaves, and a full socket that has room
// again, is told once.
func (s *sockets) watch(fs *fdStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	fs.generation = int32(s.taken & 0x7fffffff)
	s.byFD[fs.fd] = fs
	const edge = 1 << 31 // syscall.EPOLLET, which is negative there
	err := syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_ADD, int(fs.fd), &syscall.EpollEvent{
		Events: syscall.EPOLLRDHUP | syscall.EPOLLOUT | edge, Fd: fs.fd, Pad: fs.generation,
	})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// release closes a stream's socket. The order keeps the next user of the descriptor from being taken for this one.
func (s *sockets) release(fs *fdStream) {
	s.mu.Lock()
	delete(s.byFD, fs.fd)
	s.mu.Unlock()
	_ = syscall.Close(int(fs.fd)) // which takes it out of epoll, too
}

// run tells the news of epoll until the sockets are closed. A client that closes its half of the connection has left, as it
// has for net/http; what it sends after its request is never read.
func (s *sockets) run() {
	raw, err := s.poll.SyscallConn()
	if err != nil {
		s.log.Error("cannot watch connections", "error", err)
		return
	}
	events := make([]syscall.EpollEvent, 256)
	for {
		var n int
		err := raw.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0) // fails only for a wrong descriptor
			return n > 0
		})
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.closed { // no exported error tells that the file was closed meanwhile
				s.log.Error("cannot watch connections", "error", err)
			}
			return
		}
		for _, e := range events[:n] {
			s.mu.Lock()
			fs := s.byFD[e.Fd]
			s.mu.Unlock()
			if fs != nil && fs.generation == e.Pad {
				s.news(fs, e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0)
			}
		}
	}
}

// write writes without blocking; a full socket is no error.
func (s socket) write(b []byte) (int, error) {
	for {
		n, err := syscall.Write(int(s.fd), b)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		case err != nil:
			return 0, fmt.Errorf("write: %w", err)
		}
		return n, nil
	}
}

// closeByReset has the coming close throw away what the client has not received. The kernel would keep it for minutes
// otherwise.
func (s socket) closeByReset() {
	_ = syscall.SetsockoptLinger(int(s.fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}
