package web

import (
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/event-piper/event-piper/core/problem"
)

// KeepToThisMachine is for a start for development, whose events are nobody's secret but whose service anybody who
// reaches it can use: it listens on loopback unless an address is given, and answers only to this machine's names.
func (c *Config) KeepToThisMachine() {
	c.Hosts = []string{"localhost"}
	if c.Address == "" {
		c.Address = "127.0.0.1"
		return
	}
	c.Hosts = append(c.Hosts, strings.ToLower(c.Address))
	if name, err := os.Hostname(); err == nil {
		c.Hosts = append(c.Hosts, strings.ToLower(name))
	}
}

// checkHost refuses requests for other hosts than these: a page of any site can have its own name resolve to
// this machine (DNS rebinding), and would then be of the same origin as this service. An IP address is no name,
// and is always good. Without hosts every request passes.
func checkHost(hosts []string, next http.Handler) http.Handler {
	if len(hosts) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.ToLower(strings.Trim(host, "[]"))
		if net.ParseIP(host) == nil && !slices.Contains(hosts, host) {
			problem.New(http.StatusMisdirectedRequest, "this is not the host that was asked for").Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}
