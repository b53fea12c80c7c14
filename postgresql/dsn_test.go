package postgresql

import (
	"crypto/tls"
	"strings"
	"testing"
)

func TestAMalformedDSNNeverPrintsItsPassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"host=h port=bad password = s3cr3tPW",
		"host=h port=bad password='s3cr3tPW'",
		"password=my s3cr3tPW host=h",
		"password='s3cr3tPW",
		"host=h password=a\tb s3cr3tPW=1@",
		"s3cr3tPW",
		"postgres://u:s3cr3tPW@h:port/d",
		"postgres://u:s3cr3tPW@%zz/d",
		"postgres://u:%zzs3cr3tPW@h/d",
		"postgres://u:1/s3cr3tPW@h/d",
		"postgres://u@h/d?password=s3cr3tPW&target_session_attrs=s3cr3tPW",
		"postgres://u@h/d?password=s3cr3tPW&connect_timeout=s3cr3tPW",
		"postgres://u:s3cr3tPW@h/d?sslmode=s3cr3tPW",
		"postgres://u:s3cr3tPW@h/d?channel_binding=s3cr3tPW",
		"postgres://u:s3cr3tPW@h/d?keepalives_idle=s3cr3tPW",
		"postgres://u:s3cr3tPW@h/d?ssl_min_protocol_version=s3cr3tPW",
		"postgres://u:s3cr3tPW@h/d?default_query_exec_mode=s3cr3tPW",
		"postgres://u:s3cr3tPW@h/d?hostaddr=127.0.0.1",
		"postgres://u:s3cr3tPW@h/d?sslrootcert=/nowhere",
	} {
		_, err := parseDSN("DATABASE_URL", dsn, "test")
		switch {
		case err == nil:
			t.Errorf("%s: read, want an error", dsn)
		case strings.Contains(err.Error(), "s3cr3tPW") || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "DATABASE_URL: "):
			t.Errorf("%s: %v; want one line that names the setting and not the password", dsn, err)
		}
	}
}

func TestParametersOfLibpqAreNotSentToTheServer(t *testing.T) {
	t.Parallel()
	c, err := parseDSN("DATABASE_URL", "postgres://u@h/d?keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3"+
		"&tcp_user_timeout=1000&gssencmode=disable&fallback_application_name=x&application_name=y&ssl_min_protocol_version=TLSv1.3"+
		"&pool_max_conns=3&load_balance_hosts=random&client_encoding=LATIN1&connect_timeout=3&search_path=piper&sslmode=require", "test")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"application_name": "test", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
	for name, value := range c.RuntimeParams {
		if want[name] != value {
			t.Errorf("sent at the start: %s=%s", name, value)
		}
	}
	if len(c.asked) != 1 || c.asked[0] != (parameter{"search_path", "piper"}) {
		t.Errorf("set later: %v, want the search_path alone", c.asked)
	}
	if c.TLSConfig.MinVersion != tls.VersionTLS13 {
		t.Errorf("TLS from version %x, want 1.3", c.TLSConfig.MinVersion)
	}
}

func TestAMisreadPasswordIsNotPrinted(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://s3cr3tPW@127.0.0.1:1/d",
		"postgres://u:p@127.0.0.1:1/d%23s3cr3tPW%21",
		"postgres://u:p@s3cr3tPW%21:1/d",
		"host=127.0.0.1 port=1 user='s3cr3tPW and more' password=p",
		"host=127.0.0.1 port=1 dbname='x s3cr3tPW' user=u password=p",
	} {
		target, err := parseDSN("DATABASE_URL", dsn, "test")
		if err == nil {
			_, _, err = target.connect(t.Context())
		}
		if err == nil || strings.Contains(err.Error(), "s3cr3tPW") {
			t.Errorf("%s: %v, want an error without the password", dsn, err)
		}
		if place := Place(dsn); strings.Contains(place, "s3cr3tPW") {
			t.Errorf("%s is said to be at %s", dsn, place)
		}
	}
	target, err := parseDSN("DATABASE_URL", "postgres://reader:p@127.0.0.1:1/shop", "test")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = target.connect(t.Context())
	for _, part := range []string{"reader", "127.0.0.1", "shop"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v, want %s in it", err, part)
		}
	}
}

// TestAShortNameLeavesTheMessageReadable connects as users of one letter without a password, which might be a misread one.
func TestAShortNameLeavesTheMessageReadable(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://t@127.0.0.1:1/test?sslmode=disable": "failed to connect to `user=… database=test`: 127.0.0.1:1 (127.0.0.1): dial error: dial tcp 127.0.0.1:1: connect: connection refused",
		"postgres://1@127.0.0.1:1/d1":                   "user=… database=d1",
		"postgres://test@127.0.0.1:1/te":                "user=… database=te`",
		"postgres://é@127.0.0.1:1/café":                 "user=… database=", // which is no name, and hidden as well
	} {
		target, err := parseDSN("DATABASE_URL", dsn, "test")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err = target.connect(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", dsn, err, want)
		}
	}
	if place := Place("postgres://4@127.0.0.1:5432/d4"); place != "127.0.0.1:5432/d4" {
		t.Errorf("user 4: the database is said to be at %s", place)
	}
}
