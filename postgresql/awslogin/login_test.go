package awslogin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/postgresql"
	"github.com/event-piper/event-piper/postgresql/awslogin"
	"github.com/event-piper/event-piper/postgresql/awslogin/awsaccount"
	"github.com/event-piper/event-piper/postgresql/migrations"
	"github.com/event-piper/event-piper/postgresql/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:events-AbCdEf"

// manager is a stub of Secrets Manager that holds one secret and takes only requests that are signed as AWS demands.
type manager struct {
	t      *testing.T
	mu     sync.Mutex
	stages map[string]string // guarded by mu
	reads  int               // guarded by mu
}

// startManager makes it the one that AWS's client finds.
func startManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{t: t, stages: map[string]string{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.URL)
	account(t)
	return m
}

func account(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
	t.Setenv("AWS_SESSION_TOKEN", "session")
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
var signature = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\d{8}/eu-central-1/secretsmanager/aws4_request, ` +
	`SignedHeaders=[a-z0-9;-]*host;[a-z0-9;-]*x-amz-date;x-amz-security-token;x-amz-target, Signature=[0-9a-f]{64}$`)

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("Authorization"); !signature.MatchString(got) {
		m.t.Errorf("want a signature of version 4 over the target, got %q", got)
	}
	if got := r.Header.Get("X-Amz-Target"); got != "secretsmanager.GetSecretValue" || r.Header.Get("X-Amz-Security-Token") != "session" {
		m.t.Errorf("want GetSecretValue with the session's token, got %v", r.Header)
	}
	var ask struct{ SecretID, VersionStage string }
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.SecretID != arn {
		m.t.Errorf("want a question about the secret, got %+v, %v", ask, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	value, ok := m.stages[ask.VersionStage]
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"ResourceNotFoundException","Message":"no such version"}`)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"ARN": arn, "SecretString": value})
}

func (m *manager) set(stage, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stages[stage] = value; value == "" {
		delete(m.stages, stage)
	}
}

func (m *manager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// reader is a role whose password a rotation changes.
type reader struct {
	t     *testing.T
	owner *pgx.Conn
	url   url.URL
}

func newReader(t *testing.T, m *manager) reader {
	t.Helper()
	dsn := pgtest.New(t)
	owner, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	r := reader{t, owner, *u}
	name := "reader_" + strings.Trim(u.Path, "/")
	r.exec("create role " + name + " login password 'first'")
	r.exec("grant select on all tables in schema public to " + name)
	r.exec("grant select on all sequences in schema public to " + name)
	t.Cleanup(func() {
		_, _ = owner.Exec(context.Background(), "drop owned by "+name)
		_, _ = owner.Exec(context.Background(), "drop role "+name)
	})
	r.url.User = url.UserPassword(name, "first")
	m.set("AWSCURRENT", r.secret("first"))
	return r
}

func (r reader) exec(sql string) {
	r.t.Helper()
	if _, err := r.owner.Exec(r.t.Context(), sql); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// secret is the secret as RDS writes it.
func (r reader) secret(password string) string {
	return fmt.Sprintf(`{"username":%q,"password":%q,"engine":"postgres","host":%q,"port":%s,"dbname":%q}`,
		r.url.User.Username(), password, r.url.Hostname(), r.url.Port(), strings.Trim(r.url.Path, "/"))
}

// change gives the role another password and ends its connections, as a failover would.
func (r reader) change(password string) {
	r.t.Helper()
	r.exec(fmt.Sprintf("alter role %s password '%s'", r.url.User.Username(), password))
	r.exec(fmt.Sprintf("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '%s'", r.url.User.Username()))
}

// pass is a moment at which the secret may be read again.
func pass() { time.Sleep(1100 * time.Millisecond) }

// TestARotationCostsNoPoll changes the password while a Lambda polls: before the secret has the new one as its current
// value, and after.
func TestARotationCostsNoPoll(t *testing.T) {
	m := startManager(t)
	r := newReader(t, m)
	t.Setenv("PGSSLMODE", "disable") // the test's server has no certificate
	c := awslogin.Config{SecretARN: arn, Auth: "password"}
	dsn, login, err := c.Open(t.Context(), "", awslogin.Function)
	if err != nil {
		t.Fatal(err)
	}
	connect, err := postgresql.Single(postgresql.Config{URL: dsn, Name: "rotation", Login: login}, false)
	if err != nil {
		t.Fatal(err)
	}
	poller := core.NewDirect(connect, slog.New(slog.DiscardHandler))
	t.Cleanup(poller.Close)
	poll := func(when string) {
		t.Helper()
		r.exec("insert into events (type, timestamp, subscriber, payload) values ('insert', now(), 'toto', '{}')")
		batch, err := poller.Poll(t.Context(), core.Poll{Consumer: "toto", After: 0, Limit: 10})
		if err != nil || len(batch.Events) == 0 {
			t.Errorf("%s: want events, got %v, %v", when, batch.Events, err)
		}
	}
	poll("at first")
	reads := m.count()
	poll("over the same connection")
	if got := m.count(); got != reads {
		t.Errorf("want the secret read once, got %d more reads", got-reads)
	}

	pass()
	m.set("AWSPENDING", r.secret("second"))
	r.change("second")
	poll("while the secret's new version is pending")

	pass()
	m.set("AWSCURRENT", r.secret("third"))
	m.set("AWSPENDING", "")
	r.change("third")
	poll("after the rotation")
}

// TestAStoreSignsInAgain does the same with the containers' store: the connection that follows and those of history.
func TestAStoreSignsInAgain(t *testing.T) {
	m := startManager(t)
	r := newReader(t, m)
	m.set("AWSCURRENT", r.url.String()) // a URL this time
	c := awslogin.Config{SecretARN: arn, Auth: "password"}
	dsn, login, err := c.Open(t.Context(), "", awsaccount.Find)
	if err != nil {
		t.Fatal(err)
	}
	store, err := postgresql.Open(t.Context(), postgresql.Config{URL: dsn, Login: login, Name: "rotation", Pagers: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	read := func(when string) {
		t.Helper()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				query := []core.PageQuery{{Addresses: []string{"toto"}, Limit: 10}}
				if _, err := store.Pages(t.Context(), query, core.Mark{}); err != nil {
					t.Errorf("%s: want a page, got %v", when, err)
				}
			})
		}
		all.Wait()
	}
	read("at first")
	pass()
	r.url.User = url.UserPassword(r.url.User.Username(), "second")
	m.set("AWSCURRENT", r.url.String())
	r.exec(fmt.Sprintf("alter role %s password 'second'", r.url.User.Username()))
	store.Close()
	if store, err = postgresql.Open(t.Context(), postgresql.Config{URL: dsn, Login: login, Name: "rotation", Pagers: 4}); err != nil {
		t.Fatal(err)
	}
	reads := m.count()
	read("after the rotation, with the login that knows the old password")
	if got := m.count() - reads; got != 1 {
		t.Errorf("want one read of the secret for all connections, got %d", got)
	}
}

// TestAPasswordThatIsWrongForGood is told as what it is.
func TestAPasswordThatIsWrongForGood(t *testing.T) {
	m := startManager(t)
	r := newReader(t, m)
	m.set("AWSCURRENT", r.secret("wrong"))
	c := awslogin.Config{SecretARN: arn, Auth: "password"}
	dsn, login, err := c.Open(t.Context(), "postgres://"+r.url.Host+r.url.Path, awsaccount.Find)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = migrations.Apply(t.Context(), dsn, login)
	if err == nil || !strings.Contains(err.Error(), "28P01") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("want the server's refusal and not the password, got %v", err)
	}
}

func TestASecretThatCannotBeUsed(t *testing.T) {
	m := startManager(t)
	for value, want := range map[string]string{
		`{"username":"u","password":"p"}`: "names no host",
		`{"username":"u"}`:                "no username or no password",
		`{"username":`:                    "cannot be read",
		`s3cr3t`:                          "neither a connection string nor JSON",
		"":                                "read DATABASE_SECRET_ARN",
	} {
		m.set("AWSCURRENT", value)
		c := awslogin.Config{SecretARN: arn, Auth: "password"}
		_, _, err := c.Open(t.Context(), "", awslogin.Function)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: want an error that says %q, got %v", value, want, err)
		}
	}
}

// TestTokens looks at what RDS would get, with credentials from wherever AWS puts them.
func TestTokens(t *testing.T) {
	t.Run("of a program", func(t *testing.T) {
		account(t)
		wantTokens(t, awsaccount.Find)
	})
	t.Run("of a function", func(t *testing.T) {
		account(t)
		wantTokens(t, awslogin.Function)
	})
	t.Run("of a function that is given an address of its credentials", func(t *testing.T) {
		account(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pass")
		place := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "pass" {
				t.Errorf("want to be asked with the token, got %q", got)
			}
			_, _ = io.WriteString(w, `{"AccessKeyId":"AKIDEXAMPLE","SecretAccessKey":"secret","Token":"session","Expiration":"2999-01-01T00:00:00Z"}`)
		}))
		t.Cleanup(place.Close)
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", place.URL)
		wantTokens(t, awslogin.Function)
	})
}

func TestAFunctionWithoutAnAccount(t *testing.T) {
	for name, want := range map[string]string{"AWS_ACCESS_KEY_ID": "no credentials", "AWS_REGION": "AWS_REGION is not set"} {
		account(t)
		t.Setenv(name, "")
		c := awslogin.Config{Auth: "rds-iam"}
		_, _, err := c.Open(t.Context(), "postgres://reader@db.example.com/events", awslogin.Function)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: want an error that says %q, got %v", name, want, err)
		}
	}
}

// wantTokens wants a request to connect, signed for 15 minutes, for this host and user, and none for a server that is not
// verified.
func wantTokens(t *testing.T, find awslogin.Account) {
	t.Helper()
	c := awslogin.Config{Auth: "rds-iam"}
	dsn, login, err := c.Open(t.Context(), "postgres://reader@db.example.com:5432/events?sslmode=verify-full", find)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := login.Give(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	token, err := url.Parse("https://" + config.Password)
	if err != nil {
		t.Fatal(err)
	}
	q := token.Query()
	if token.Host != "db.example.com:5432" || q.Get("Action") != "connect" || q.Get("DBUser") != "reader" || q.Get("X-Amz-Expires") != "900" {
		t.Errorf("want a request to connect, got %s", token)
	}
	for name, form := range map[string]string{
		"X-Amz-Algorithm":      `^AWS4-HMAC-SHA256$`,
		"X-Amz-Credential":     `^AKIDEXAMPLE/\d{8}/eu-central-1/rds-db/aws4_request$`,
		"X-Amz-Signature":      `^[0-9a-f]{64}$`,
		"X-Amz-Security-Token": `^session$`,
		"X-Amz-SignedHeaders":  `^host$`,
	} {
		if got := q.Get(name); !regexp.MustCompile(form).MatchString(got) {
			t.Errorf("%s: want %s, got %q", name, form, got)
		}
	}
	for _, mode := range []string{"disable", "prefer", "require", "verify-ca"} {
		open, err := pgx.ParseConfig("postgres://reader@db.example.com/events?sslmode=" + mode)
		if err != nil {
			t.Fatal(err)
		}
		if err := login.Give(t.Context(), open); err == nil || open.Password != "" {
			t.Errorf("sslmode=%s: want no token for a server that is not verified, got %v", mode, err)
		}
	}
}
