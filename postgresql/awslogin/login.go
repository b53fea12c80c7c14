// Package awslogin signs in to PostgreSQL with what AWS keeps: a secret of Secrets Manager, whose rotation costs no
// connection, or RDS tokens, which are made for each connection and live for 15 minutes.
package awslogin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/jackc/pgx/v5"

	"github.com/event-piper/event-piper/core/settings"
	"github.com/event-piper/event-piper/postgresql"
)

// Config says how to sign in.
type Config struct {
	SecretARN string
	Auth      string
}

const iam = "rds-iam"

// Define defines the settings, beside DATABASE_URL and, unless listenURL is nil, DATABASE_LISTEN_URL, which must be defined
// before. What belongs to a database that nothing names is wrong: without a word another one would be used instead.
func (c *Config) Define(s *settings.Set, databaseURL, listenURL *string) {
	s.String(&c.SecretARN, "DATABASE_SECRET_ARN", "", "AWS secret with the database's URL, or JSON as RDS manages it (username, password, host, …); read again when it is refused.")
	s.Choice(&c.Auth, "DATABASE_AUTH", "password", []string{"password", iam}, "rds-iam: sign in to RDS with a token of AWS for each connection, which takes sslmode=verify-full and PGSSLROOTCERT.")
	unnamed := func() bool { return !postgresql.Named(*databaseURL) && !c.Named() }
	s.Check("DATABASE_AUTH", func() error {
		switch {
		case c.Auth == iam && c.SecretARN != "":
			return errors.New("rds-iam takes no DATABASE_SECRET_ARN: a token is the password")
		case c.Auth == iam && unnamed():
			return errors.New("rds-iam takes a DATABASE_URL or PGHOST, which says where to sign in")
		}
		return nil
	})
	if listenURL != nil {
		s.Check("DATABASE_LISTEN_URL", func() error {
			if *listenURL != "" && unnamed() {
				return errors.New("takes a DATABASE_URL as well: it is the same database, without the pooler")
			}
			return nil
		})
	}
}

// Named reports whether a database is named by the secret, so that no DSN is needed.
func (c *Config) Named() bool { return c.SecretARN != "" }

// Account finds the region and the credentials with which AWS is asked: [Function], or that of package awsaccount.
type Account func(context.Context) (aws.Config, error)

// Open returns the DSN to use for the one given, and the login that belongs to it; nil if the DSN says it all. It reads
// the secret.
func (c *Config) Open(ctx context.Context, dsn string, find Account) (string, postgresql.Login, error) {
	if c.SecretARN == "" && c.Auth != iam {
		return dsn, nil, nil
	}
	account, err := find(ctx)
	if err != nil {
		return "", nil, err
	}
	if account.Region == "" {
		return "", nil, errors.New("AWS_REGION is not set")
	}
	if c.Auth == iam {
		return dsn, &tokens{region: account.Region, credentials: account.Credentials}, nil
	}
	return openSecret(ctx, secretsmanager.NewFromConfig(account), c.SecretARN, dsn)
}

// tokens is the login of RDS with IAM.
type tokens struct {
	region      string
	credentials aws.CredentialsProvider
}

var errClearText = errors.New("DATABASE_AUTH=rds-iam sends a token that is as good as a password: add sslmode=verify-full to DATABASE_URL, " +
	"and PGSSLROOTCERT (or sslrootcert) with the bundle of RDS's certificate authorities")

// Give implements postgresql.Login. Making a token asks nobody.
func (t *tokens) Give(ctx context.Context, c *pgx.ConnConfig) error {
	if !verified(c) {
		return errClearText
	}
	token, err := auth.BuildAuthToken(ctx, net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), t.region, c.User, t.credentials)
	if err != nil {
		return fmt.Errorf("make a token for RDS: %w", err)
	}
	c.Password = token
	return nil
}

// Renew implements postgresql.Login: a token that was refused was a fresh one.
func (*tokens) Renew(context.Context) (bool, error) { return false, nil }

// verified reports whether every way to the server is encrypted and checks its name and certificate.
func verified(c *pgx.ConnConfig) bool {
	if c.TLSConfig == nil || c.TLSConfig.InsecureSkipVerify {
		return false
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig == nil || f.TLSConfig.InsecureSkipVerify {
			return false
		}
	}
	return true
}
