package postgresql

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Named reports whether a DSN or, without one, libpq's variables say which database to use.
func Named(dsn string) bool {
	return dsn != "" || os.Getenv("PGHOST") != "" || os.Getenv("PGSERVICE") != ""
}

// target is a database as a DSN names it, and how its connections are set up.
type target struct {
	*pgx.ConnConfig
	// asked are the run-time parameters that the DSN asks for. They are set after connecting: a pooler refuses most of
	// them at the start of a connection.
	asked []parameter
	// newer, if set, hears of a schema that is newer than this program's; else that is an error.
	newer func(*SchemaError)
	// login, if set, gives the user and the password.
	login Login
	// deaf is shared by the connections that are made for this target.
	deaf *deafness
}

type parameter struct{ name, value string }

// connectTimeout bounds connecting to one host unless the DSN has a connect_timeout: the next one has its turn then.
const connectTimeout = 5 * time.Second

// parseDSN reads a DSN, whose setting an error names, and, for what it leaves out, libpq's PG* variables. An error never
// repeats what it could not read: any part of it may be the password.
func parseDSN(setting, dsn, application string) (*target, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, withoutSecrets(err))
	}
	t := &target{ConnConfig: c, deaf: new(deafness)}
	if strings.Contains(c.Database, "@") || strings.ContainsAny(c.Host, "@ ") {
		return nil, fmt.Errorf("%s: an @ after the host: is it part of the password? Write it as %%40, and a slash as %%2F", setting)
	}
	if err := t.takeParameters(); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	c.RuntimeParams["application_name"] = application
	// Payloads are JSON text, which is defined in UTF-8.
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.RuntimeParams["standard_conforming_strings"] = "on"    // which our statements rely on
	c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement // whose binary results are decoded here
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	return t, nil
}

// readable finds in an error of pgx which part of a DSN it is about.
var readable = regexp.MustCompile(`invalid (port|connect_timeout|sslcertmode|require_auth|(min|max)_protocol_version|default_query_exec_mode|statement_cache_capacity|description_cache_capacity)` +
	`|unknown (target_session_attrs|channel_binding)|could not match \d+ port numbers to \d+ hosts|sslmode is invalid`)

var errUnreadable = errors.New("is no connection string: write postgresql://user:password@host:5432/database, " +
	"with %-escapes in the password, or host=… user=… password='…'")

// withoutSecrets says what is wrong with a DSN without repeating any of it but the names of files.
func withoutSecrets(err error) error {
	text := err.Error()
	for _, what := range []string{"failed to configure TLS", "failed to read service"} {
		if _, cause, ok := strings.Cut(text, what+" ("); ok {
			return fmt.Errorf("%s: %s", what, strings.TrimSuffix(cause, ")"))
		}
	}
	if found := readable.FindString(text); found != "" {
		return errors.New(found)
	}
	return errUnreadable
}

// parameterName is what PostgreSQL takes for one. What a misread password leaves behind seldom looks so.
var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*$`)

// takeParameters takes those of libpq's parameters that pgx would send to the server, and what is to be set later, out of
// the startup message. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
func (t *target) takeParameters() error {
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: 5 * time.Minute}
	for name, value := range t.RuntimeParams {
		delete(t.RuntimeParams, name)
		var err error
		switch name {
		case "options":
			t.RuntimeParams[name] = value // some parameters can be set only at the start
		case "keepalives":
			keepAlive.Enable = value != "0"
		case "keepalives_idle":
			keepAlive.Idle, err = seconds(name, value)
		case "keepalives_interval":
			keepAlive.Interval, err = seconds(name, value)
		case "keepalives_count":
			if keepAlive.Count, err = strconv.Atoi(value); err != nil {
				err = fmt.Errorf("%s is no number", name)
			}
		case "ssl_min_protocol_version", "ssl_max_protocol_version":
			err = t.limitTLS(name, value)
		case "application_name", "fallback_application_name", "client_encoding", "standard_conforming_strings":
			// Ours are sent instead.
		case "tcp_user_timeout", "sslcompression", "gsslib", "gssdelegation", "load_balance_hosts", "sslkeylogfile":
			// What they ask for is seen to otherwise, or makes no difference here.
		case "gssencmode":
			if value == "require" {
				err = errors.New("gssencmode=require is not supported: use sslmode")
			}
		case "hostaddr", "sslcrl", "sslcrldir", "requirepeer", "replication", "scram_client_key", "scram_server_key":
			if value != "" {
				err = fmt.Errorf("%s is not supported", name)
			}
		default:
			switch {
			case strings.HasPrefix(name, "pool_"): // which pgx takes for its pool's
			case !parameterName.MatchString(name):
				err = errUnreadable
			default:
				t.asked = append(t.asked, parameter{name, value})
			}
		}
		if err != nil {
			return err
		}
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	t.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &line{Conn: conn}, nil
	}
	return nil
}

func seconds(name, value string) (time.Duration, error) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("%s is no number", name)
	}
	return time.Duration(n) * time.Second, nil
}

var tlsVersions = map[string]uint16{
	"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13,
}

func (t *target) limitTLS(name, value string) error {
	version, ok := tlsVersions[value]
	if !ok && value != "" {
		return fmt.Errorf("%s is none of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3", name)
	}
	for _, c := range append([]*pgconn.FallbackConfig{{TLSConfig: t.TLSConfig}}, t.Fallbacks...) {
		switch {
		case c.TLSConfig == nil:
		case name == "ssl_min_protocol_version":
			c.TLSConfig.MinVersion = version
		default:
			c.TLSConfig.MaxVersion = version
		}
	}
	return nil
}
