package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// load holds connections without a goroutine or a buffer for each: one thread, one epoll(7) instance, which
// also watches where the orders come from, and one buffer that every connection is read into.
type load struct {
	epoll  int
	orders int // the descriptor they come from
	buffer []byte
	groups map[int32]*group
	input  []byte // of an order, up to its line feed
	output *json.Encoder
	wait   *wait // the order that is being carried out, nil when the next may come
}

// wait is an order that takes time.
type wait struct {
	group    *group
	done     func() bool
	deadline time.Time
}

// group is the connections of one open order.
type group struct {
	asked   order // what opened it
	load    *load
	number  int32
	address syscall.SockaddrInet4
	conns   []conn
	next    int // the first connection that has not been dialed
	dialing int
	open    int
	settled int   // connections that have been opened, or have failed, since the order
	failure error // the first one

	total  int64 // events since it was opened
	mark   int64 // the id that is awaited, or a higher one, on every connection
	behind int   // connections that do not have it yet
	Counts
	latency histogram
}

// conn is one connection.
type conn struct {
	fd     int32 // -1 when it is closed
	state  state
	last   int64  // the newest id
	cursor int64  // of a poll
	rest   []byte // the beginning of a frame whose end has not come yet
	// validators are the headers with which nchan's long-poll goes on.
	validators []byte
}

type state uint8

const (
	connecting state = iota
	head             // the request is out
	body             // the status was 200
)

// ordersGroup is the group number of where the orders come from.
const ordersGroup = -1

// runLoad is the load generator's life. It ends with the orders, and with io.EOF.
func runLoad(orders int, answers io.Writer) error {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll_create1: %w", err)
	}
	l := &load{
		epoll: epoll, orders: orders, buffer: make([]byte, 64<<10),
		groups: map[int32]*group{}, output: json.NewEncoder(answers),
	}
	defer l.close()
	err = syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, orders, &syscall.EpollEvent{Events: syscall.EPOLLIN, Pad: ordersGroup})
	if err != nil {
		return fmt.Errorf("watch for orders: %w", err)
	}
	events := make([]syscall.EpollEvent, 512)
	for {
		timeout := -1
		if l.wait != nil {
			timeout = 10 // milliseconds, to see the deadline
		}
		n, err := syscall.EpollWait(epoll, events, timeout)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if e.Pad == ordersGroup {
				if err := l.order(); err != nil {
					return err
				}
				continue
			}
			if g := l.groups[e.Pad]; g != nil {
				g.ready(&g.conns[e.Fd], e.Fd, e.Events)
			}
		}
		if err := l.proceed(); err != nil {
			return err
		}
	}
}

func (l *load) close() {
	for _, g := range l.groups {
		g.close()
	}
	_ = syscall.Close(l.epoll)
}

// proceed answers the order that is being carried out if it is done or has taken too long.
func (l *load) proceed() error {
	w := l.wait
	if w == nil {
		return nil
	}
	if g := w.group; g.dialing < g.asked.Dialing && g.next < len(g.conns) {
		g.dial()
	}
	if !w.done() && time.Now().Before(w.deadline) {
		return nil
	}
	l.wait = nil
	return l.answer(w.group, w.group.failure)
}

// order reads on and starts to carry out an order that is complete.
func (l *load) order() error {
	n, err := syscall.Read(l.orders, l.buffer)
	if err != nil {
		return fmt.Errorf("read an order: %w", err)
	}
	if n == 0 {
		return io.EOF
	}
	l.input = append(l.input, l.buffer[:n]...)
	if l.input[len(l.input)-1] != '\n' {
		return nil
	}
	var o order
	err = json.Unmarshal(l.input, &o)
	l.input = l.input[:0]
	if err != nil {
		return fmt.Errorf("read an order: %w", err)
	}
	number := int32(o.Group) //nolint:gosec // a handful
	g := l.groups[number]
	if g == nil {
		g = &group{load: l, number: number}
		l.groups[number] = g
	}
	switch o.Do {
	case "open":
		if err := g.begin(o); err != nil {
			return l.answer(g, err)
		}
		g.dial()
		l.wait = &wait{g, func() bool { return g.settled == len(g.conns) }, time.Now().Add(o.Within)}
	case "await":
		g.await(o.ID)
		l.wait = &wait{g, func() bool { return o.Events > 0 && g.Closed > 0 || g.behind == 0 && g.total >= o.Events }, time.Now().Add(o.Within)}
	case "close":
		g.close()
		delete(l.groups, number)
		return l.answer(g, nil)
	case "report":
		return l.answer(g, nil)
	default:
		return l.answer(g, fmt.Errorf("unknown order %q", o.Do))
	}
	return nil
}

// answer reports what a group has seen and begins to count anew.
func (l *load) answer(g *group, err error) error {
	a := answer{Open: g.open, Behind: g.behind, TotalEvents: g.total, Counts: g.Counts, Latency: g.latency, CPU: ownCPU()}
	if err != nil {
		a.Error = err.Error()
	}
	g.Counts, g.latency, g.failure = Counts{}, histogram{}, nil
	return l.output.Encode(a)
}

func (g *group) begin(o order) error {
	at, err := netip.ParseAddrPort(o.Address)
	if err != nil {
		return err
	}
	g.asked = o
	g.address = syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	if o.Resume {
		if g.open > 0 || len(g.conns) != o.Sessions {
			return fmt.Errorf("cannot resume: %d of %d connections are open", g.open, len(g.conns))
		}
		g.next, g.settled = 0, 0
		return nil
	}
	g.conns = make([]conn, o.Sessions)
	for i := range g.conns {
		g.conns[i] = conn{fd: -1, cursor: o.Cursor}
	}
	return nil
}

func (g *group) await(id int64) {
	g.mark, g.behind = id, 0
	for i := range g.conns {
		if g.conns[i].last < id {
			g.behind++
		}
	}
}

func (g *group) close() {
	for i := range g.conns {
		g.hangUp(&g.conns[i])
	}
}

func (g *group) hangUp(c *conn) {
	if c.fd < 0 {
		return
	}
	_ = syscall.Close(int(c.fd)) // which takes it out of epoll, too
	c.fd = -1
	c.rest = nil
	if c.state == body {
		g.open--
	} else {
		g.dialing--
	}
}

// dial opens connections while there are fewer under way than wanted.
func (g *group) dial() {
	for g.dialing < g.asked.Dialing && g.next < len(g.conns) {
		c := &g.conns[g.next]
		g.dialing++
		if err := g.connect(c, int32(g.next)); err != nil { //nolint:gosec // thousands
			g.fail(c, err)
		}
		g.next++
	}
}

func (g *group) connect(c *conn, index int32) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c.fd, c.state = int32(fd), connecting //nolint:gosec // descriptors are small
	// Requests of a poll are written in one piece and must not wait for the answer to the one before.
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	// A client of its own for every few thousand connections: the kernel's search for a free port gets slow
	// when most of one address's are taken.
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1)
	source := syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + index%8)}} //nolint:gosec // 2 to 9
	if err := syscall.Bind(fd, &source); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Connect(fd, &g.address); err != nil && !errors.Is(err, syscall.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	const edge = 1 << 31 // syscall.EPOLLET, which is negative there
	err = syscall.EpollCtl(g.load.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | edge, Fd: index, Pad: g.number,
	})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// fail ends a connection that did not come to be.
func (g *group) fail(c *conn, err error) {
	if g.failure == nil {
		g.failure = err
	}
	g.settled++
	if c.fd < 0 {
		g.dialing--
		return
	}
	g.hangUp(c)
}

// ready handles what epoll says of a connection.
func (g *group) ready(c *conn, index int32, events uint32) {
	if c.fd < 0 {
		return // news of a connection that was closed since
	}
	if c.state == connecting {
		code, err := syscall.GetsockoptInt(int(c.fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		if err == nil && code != 0 {
			err = syscall.Errno(code)
		}
		if err == nil && events&syscall.EPOLLOUT == 0 {
			return
		}
		if err == nil {
			c.state = head
			err = g.request(c, index)
		}
		if err != nil {
			g.fail(c, fmt.Errorf("connect: %w", err))
			return
		}
		if g.asked.Kind.polls() {
			// Nothing comes back before there is an event: asking is being open.
			g.opened(c)
		}
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		g.read(c, index, events)
	}
}

func (g *group) opened(c *conn) {
	c.state = body
	g.dialing--
	g.settled++
	g.open++
}

func (g *group) request(c *conn, index int32) error {
	b := make([]byte, 0, 256)
	b = append(b, "GET "...)
	b = append(b, g.asked.Path...)
	consumer := int(index) % g.asked.Consumers
	switch g.asked.Kind {
	case poll:
		b = append(b, "?wait=25"...)
		if c.cursor >= 0 {
			b = fmt.Appendf(b, "&after=%d", c.cursor)
		}
	case nchanPoll:
		b = fmt.Appendf(b, "?id=%s%d", g.asked.Consumer, consumer)
	}
	b = append(b, " HTTP/1.1\r\nHost: bench\r\n"...)
	b = append(b, c.validators...)
	if !g.asked.Kind.polls() {
		b = append(b, "Accept: text/event-stream\r\n"...)
	}
	b = fmt.Appendf(b, "X-Consumer-Id: %s%d\r\n", g.asked.Consumer, consumer)
	if g.asked.Topics != "" {
		b = fmt.Appendf(b, "X-Consumer-Topics: %s\r\n", strings.ReplaceAll(g.asked.Topics, "#", strconv.Itoa(consumer)))
	}
	cursor := g.asked.Cursor
	if c.last > 0 {
		cursor = c.last
	}
	if g.asked.Kind == sse && cursor >= 0 {
		b = fmt.Appendf(b, "Last-Event-ID: %d\r\n", cursor)
	}
	b = append(b, "\r\n"...)
	_, err := syscall.Write(int(c.fd), b)
	return err
}

// read takes what a connection has, as edge-triggered epoll demands: until it has less than was asked for,
// or, if the other side has said its last, until the end.
func (g *group) read(c *conn, index int32, events uint32) {
	ending := events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
	for {
		buffer := g.load.buffer
		kept := copy(buffer, c.rest)
		if kept == len(buffer) {
			g.lose(c, errors.New("a frame is larger than the buffer"))
			return
		}
		n, errno := receive(c.fd, buffer[kept:])
		switch {
		case errno == syscall.EAGAIN || errno == syscall.EINTR:
			return
		case errno != 0:
			g.lose(c, errno)
			return
		case n == 0:
			g.lose(c, errors.New("the server closed the connection"))
			return
		}
		got := buffer[:kept+n]
		g.Bytes += int64(n)
		now := time.Now().UnixNano()
		rest, err := g.take(c, index, got, now)
		if err != nil {
			g.lose(c, err)
			return
		}
		c.rest = append(c.rest[:0], rest...)
		if len(got) < len(buffer) && !ending {
			return
		}
	}
}

// lose ends a connection that the server has ended, or that said something strange.
func (g *group) lose(c *conn, err error) {
	if c.state != body {
		g.fail(c, err)
		return
	}
	g.Closed++
	g.hangUp(c)
}

// take counts what is whole in b and returns the rest.
func (g *group) take(c *conn, index int32, b []byte, now int64) (rest []byte, err error) {
	if g.asked.Kind.polls() {
		return g.takeAnswer(c, index, b, now)
	}
	if c.state == head {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return b, nil
		}
		if err := checkStatus(b); err != nil {
			return nil, err
		}
		b = b[end+4:]
		g.opened(c)
	}
	return g.frames(c, b, now), nil
}

// takeAnswer counts an answer to a poll and asks for the next.
func (g *group) takeAnswer(c *conn, index int32, b []byte, now int64) (rest []byte, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return b, nil
	}
	if err := checkStatus(b); err != nil {
		return nil, err
	}
	i := bytes.Index(b[:end], []byte("Content-Length: "))
	if i < 0 {
		return nil, errors.New("an answer without Content-Length")
	}
	length := int(number(b[i+len("Content-Length: "):]))
	if len(b) < end+4+length {
		return b, nil
	}
	if g.asked.Kind == nchanPoll {
		c.validators = fmt.Appendf(c.validators[:0], "If-Modified-Since: %s\r\nIf-None-Match: %s\r\n",
			header(b[:end+2], "Last-Modified"), header(b[:end+2], "Etag"))
	}
	g.answered(c, b[end+4:end+4+length], now)
	return nil, g.request(c, index)
}

// header is the value of a header as nginx writes it, empty without it.
func header(head []byte, name string) []byte {
	_, value, _ := bytes.Cut(head, []byte("\r\n"+name+": "))
	value, _, _ = bytes.Cut(value, []byte("\r\n"))
	return value
}

func checkStatus(b []byte) error {
	line, _, _ := bytes.Cut(b, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		_, detail, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		return fmt.Errorf("the server answers %s: %s", line, detail)
	}
	return nil
}
