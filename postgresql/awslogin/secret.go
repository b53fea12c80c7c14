package awslogin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/postgresql"
)

const (
	// renewal bounds how often the secret is read: many connections may be refused at once.
	renewal = time.Second
	// current and pending are the versions of a secret, which a rotation uses in this order: it sets pending's password in the database,
	// and makes it the current one a moment later.
	current, pending = "AWSCURRENT", "AWSPENDING"
)

// secret is the login with what Secrets Manager keeps.
type secret struct {
	client *secretsmanager.Client
	arn    string

	mu   sync.Mutex // held while the secret is read, so that one read is for all
	now  account    // guarded by mu
	read time.Time  // guarded by mu; when now was
}

// account is what a secret says, as RDS writes it:
// https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
type account struct {
	User     string      `json:"username"`
	Password string      `json:"password"`
	Host     string      `json:"host"`
	Port     json.Number `json:"port"`
	Database string      `json:"dbname"`

	url string // the whole value, if that is a URL
}

func openSecret(ctx context.Context, client *secretsmanager.Client, arn, dsn string) (string, postgresql.Login, error) {
	s := &secret{client: client, arn: arn}
	a, err := s.get(ctx, current)
	if err != nil {
		return "", nil, err
	}
	s.now, s.read = a, time.Now()
	if dsn, err = a.dsn(dsn); err != nil {
		return "", nil, err
	}
	return dsn, s, nil
}

// dsn completes a DSN, which wins where it says something: a secret that RDS manages may hold no more than user and
// password.
func (a account) dsn(dsn string) (string, error) {
	switch {
	case dsn != "" || os.Getenv("PGHOST") != "":
		return dsn, nil
	case a.url != "":
		return a.url, nil
	case a.Host == "":
		return "", errors.New("DATABASE_SECRET_ARN: the secret names no host: give DATABASE_URL as well, such as postgres://host:5432/database?sslmode=verify-full")
	}
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort(a.Host, cmp.Or(a.Port.String(), "5432")), Path: "/" + cmp.Or(a.Database, "postgres")}
	if os.Getenv("PGSSLMODE") == "" {
		u.RawQuery = "sslmode=verify-full"
	}
	return u.String(), nil
}

// Give implements postgresql.Login.
func (s *secret) Give(_ context.Context, c *pgx.ConnConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.User, c.Password = s.now.User, s.now.Password
	return nil
}

// Renew implements postgresql.Login. Who comes right after another is answered by what that one found.
func (s *secret) Renew(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < renewal {
		return true, nil
	}
	for _, stage := range []string{current, pending} {
		a, err := s.get(ctx, stage)
		if err != nil {
			if stage == pending { // which there is only during a rotation
				return false, nil
			}
			return false, err
		}
		s.read = time.Now()
		if a.User != s.now.User || a.Password != s.now.Password {
			s.now = a
			return true, nil
		}
	}
	return false, nil
}

func (s *secret) get(ctx context.Context, stage string) (account, error) {
	out, err := s.client.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &s.arn, VersionStage: &stage})
	if err != nil {
		return account{}, fmt.Errorf("read DATABASE_SECRET_ARN: %w", err)
	}
	if out.SecretString == nil {
		return account{}, errors.New("DATABASE_SECRET_ARN: the secret is binary, it takes a URL or JSON")
	}
	return parse(*out.SecretString)
}

// parse reads a secret's value. Its errors repeat nothing of it.
func parse(value string) (account, error) {
	value = strings.TrimSpace(value)
	var a account
	if strings.HasPrefix(value, "{") {
		if err := json.Unmarshal([]byte(value), &a); err != nil {
			return account{}, errors.New("DATABASE_SECRET_ARN: the secret's JSON cannot be read")
		}
		if a.User == "" || a.Password == "" {
			return account{}, errors.New("DATABASE_SECRET_ARN: the secret's JSON has no username or no password")
		}
		return a, nil
	}
	c, err := pgx.ParseConfig(value)
	if err != nil || c.User == "" {
		return account{}, errors.New("DATABASE_SECRET_ARN: the secret is neither a connection string nor JSON with username and password")
	}
	return account{User: c.User, Password: c.Password, url: value}, nil
}
