package web

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/event-piper/event-piper/core/settings"
)

// Config is the settings of a server. A limit of zero is no limit.
type Config struct {
	Address string
	Port    int
	// ManagePort is where health, metrics and profiles are served instead; 0 is at Port, without profiles.
	// ManageAddress is where it listens; see [Config.ManageHost].
	ManagePort    int
	ManageAddress string
	// TLSCertFile and TLSKeyFile are PEM files; without them the server speaks plain HTTP.
	TLSCertFile, TLSKeyFile string

	ReadHeaderTimeout time.Duration
	IdleTimeout       time.Duration
	MaxHeaderBytes    int
	// MaxConnections bounds the open connections but for hijacked ones; 0 is any number. See [connections].
	MaxConnections int
	MaxURLBytes    int
	// RequestRate is how many requests a consumer may make per second; 0 is any number. See [Limiter].
	RequestRate int
	// Hosts are the names that a request may be for, besides IP addresses; none is any. It is no setting.
	Hosts []string
	// KeepBodies leaves the bodies of requests, up to 64 KiB, to the routes. It is no setting.
	KeepBodies bool
	// CORSOrigins are the origins whose pages may read answers; "*" is all, without credentials.
	CORSOrigins []string
	// BasePath is a prefix that paths may have.
	BasePath string
	// RequestIDHeader names the header in which a trusted proxy sends the id of a request.
	RequestIDHeader string

	// Done, if set, is told of each request that has been answered, but for machines' about health and metrics. It is no
	// setting, and for programs whose handlers hijack no connection.
	Done func(a *Access, took time.Duration)

	// LameDuck is how long the server goes on as before once it is told to stop, but not ready.
	LameDuck time.Duration
	// DrainTime is how long requests and streams then have to end.
	DrainTime time.Duration

	// LogFormat and LogLevel are what [Logger] takes.
	LogFormat, LogLevel string
}

// Define defines the settings of a server that listens on port unless told otherwise.
func (c *Config) Define(s *settings.Set, port int) {
	between := settings.Between[time.Duration]

	c.DefineAddress(s, port)
	s.Duration(&c.LameDuck, "LAME_DUCK", 0, between(0, time.Hour), "On SIGTERM, how long to go on serving while the health check already says not ready.")
	s.Duration(&c.DrainTime, "DRAIN_TIME", 10*time.Second, between(0, time.Hour), "After that, the time over which open streams and requests are ended.")

	s.Section("Request limits")
	s.Duration(&c.ReadHeaderTimeout, "READ_HEADER_TIMEOUT", 10*time.Second, between(10*time.Millisecond, time.Hour), "Time a client has to send a request.")
	s.Duration(&c.IdleTimeout, "IDLE_TIMEOUT", 2*time.Minute, between(time.Second, 24*time.Hour), "Time an unused connection is kept open.")
	s.Int(&c.MaxConnections, "MAX_CONNECTIONS", 0, settings.Between(0, 10_000_000), "Connections held at a time, without streams over plain HTTP/1.1, above which those without a request are closed or, if there are none, new ones refused (503); 0 is MAX_SESSIONS and 1,000 more.")
	s.Int(&c.MaxHeaderBytes, "MAX_HEADER_BYTES", 16<<10, settings.Between(1<<10, 1<<20), "Size of a request's headers above which, or up to 4 KiB later, it is refused (431).")
	s.Int(&c.MaxURLBytes, "MAX_URL_BYTES", 8<<10, settings.Between(256, 1<<20), "Length of a URL above which a request is refused (414).")
	s.Int(&c.RequestRate, "REQUEST_RATE", 0, settings.Between(0, 1_000_000), "Requests per second of one consumer above which they are refused (429); 0 is no limit.")

	c.DefineHandler(s)
}

// DefineAddress defines the settings that say where the server listens, which is all that a probe of it needs.
func (c *Config) DefineAddress(s *settings.Set, port int) {
	s.Section("Server")
	s.Int(&c.Port, "PORT", port, settings.Between(0, 65535), "TCP port to listen on; 0 picks a free one.")
	s.String(&c.Address, "ADDRESS", "", "IP address or host name to listen on; unless given all addresses, or loopback alone with a development database.")
	s.Int(&c.ManagePort, "MANAGE_PORT", 0, settings.Between(0, 65535), "TCP port that /metrics and /manage move to, away from the public, with /manage/sessions and /debug/pprof beside them; over plain HTTP. 0 leaves them where they are, without these two.")
	s.String(&c.ManageAddress, "MANAGE_ADDRESS", "", "IP address or host name of that port; ADDRESS unless given, and loopback without either.")
	s.String(&c.TLSCertFile, "TLS_CERT_FILE", "", "PEM file with the certificate chain, for HTTPS; read again when it changes.")
	s.String(&c.TLSKeyFile, "TLS_KEY_FILE", "", "PEM file with the certificate's private key; read again when it changes.")
	s.Check("MANAGE_PORT", func() error {
		if c.ManagePort != 0 && c.ManagePort == c.Port {
			return fmt.Errorf("takes another port than PORT")
		}
		return nil
	})
	s.Check("MANAGE_ADDRESS", func() error {
		if c.ManageAddress != "" && c.ManagePort == 0 {
			return fmt.Errorf("takes a MANAGE_PORT, without which /metrics and /manage stay at PORT")
		}
		return nil
	})
	s.Check("TLS_KEY_FILE", func() error {
		if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
			return fmt.Errorf("TLS takes both TLS_CERT_FILE and TLS_KEY_FILE")
		}
		return nil
	})
}

// ManageHost is where the management port listens: whoever reaches it may do what is for operators alone, so
// it is not open to all without being told.
func (c *Config) ManageHost() string {
	switch {
	case c.ManageAddress != "":
		return c.ManageAddress
	case c.Address != "":
		return c.Address
	}
	return "127.0.0.1"
}

// DefineHandler defines the settings of the handler and its log alone, for a program that does not listen itself.
func (c *Config) DefineHandler(s *settings.Set) {
	s.Section("Paths")
	s.String(&c.BasePath, "BASE_PATH", "", "Prefix that a proxy or an API mapping in front passes on, such as /piper. Routes are served with it and without.")
	s.Check("BASE_PATH", func() error { return checkBase(c.BasePath) })

	s.Section("Browsers")
	s.List(&c.CORSOrigins, "CORS_ORIGINS", "Origins whose pages may read answers, such as https://app.example.com; * is every origin, without cookies.")
	s.Check("CORS_ORIGINS", func() error { return checkOrigins(c.CORSOrigins) })

	c.DefineLog(s)
	s.String(&c.RequestIDHeader, "REQUEST_ID_HEADER", "", "Header in which a trusted proxy sends the id of a request, such as X-Request-Id; a new id is made unless given.")
	s.Check("REQUEST_ID_HEADER", func() error { return settings.CheckToken(c.RequestIDHeader) })
}

// DefineLog defines the settings that [Logger] takes, for a program that serves nobody.
func (c *Config) DefineLog(s *settings.Set) {
	s.Section("Logging")
	s.Choice(&c.LogFormat, "LOG_FORMAT", "auto", []string{"auto", "text", "json"}, "Format of the log; auto is text on a terminal and json elsewhere.")
	s.Choice(&c.LogLevel, "LOG_LEVEL", "info", []string{"debug", "info", "warn", "error"}, "Least important level that is logged.")
}

// checkOrigins refuses what a browser never sends as an origin, which would match nothing in silence,
// and wildcards within an origin, which match more than one reads.
func checkOrigins(origins []string) error {
	if slices.Contains(origins, "*") {
		if len(origins) > 1 {
			return fmt.Errorf("* stands alone, without other origins")
		}
		return nil
	}
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host || strings.Contains(origin, "*") {
			return fmt.Errorf("%q is not an origin such as https://app.example.com, nor *", origin)
		}
	}
	return nil
}
