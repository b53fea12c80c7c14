//go:build unix

package blackbox_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestASettingThatTakesAnotherIsNotPassedOver gives every program what makes sense with another setting alone, or not at all.
// What belongs to a database would otherwise lead to the one of development.
func TestASettingThatTakesAnotherIsNotPassedOver(t *testing.T) {
	t.Parallel()
	signIn := "DATABASE_AUTH: rds-iam takes a DATABASE_URL or PGHOST"
	around := "DATABASE_LISTEN_URL: takes a DATABASE_URL"
	for _, tt := range []struct {
		program, setting, want string
		args                   []string
	}{
		{"stream", "DATABASE_AUTH=rds-iam", signIn, nil},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"insert", "toto", "order.created", "{}"}},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"tail", "toto"}},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"doctor"}},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"migrate"}},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"prune", "--older-than=720h"}},
		{"poll", "DATABASE_AUTH=rds-iam", signIn, nil},
		{"stream", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", around, nil},
		{"stream", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", around, []string{"tail", "toto"}},
		{"stream", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", around, []string{"doctor"}},
		{"stream", "MANAGE_ADDRESS=127.0.0.1", "MANAGE_ADDRESS: takes a MANAGE_PORT", nil},
		{"stream", "REQUEST_ID_HEADER=X-Request-Id:", `REQUEST_ID_HEADER: "X-Request-Id:" is not a name`, nil},
		{"poll", "JWT_COOKIE=my token", `JWT_COOKIE: "my token" is not a name`, nil},
		{"stream", "CLOUDEVENTS_SOURCE=my service", `CLOUDEVENTS_SOURCE: "my service" is not a URI reference`, nil},
		{"poll", "CLOUDEVENTS_SOURCE=https://a.example/%zz", `CLOUDEVENTS_SOURCE: "https://a.example/%zz" is not a URI reference`, nil},
		{"stream", "JWT_ISSUER=https://issuer.example", "AUTH: is gateway", nil},
		{"stream", "JWT_AUDIENCE=events", "AUTH: is gateway", nil},
		{"stream", "JWT_TOPICS_CLAIM=topics", "AUTH: is gateway", nil},
		{"stream", "JWT_COOKIE=token", "AUTH: is gateway", nil},
	} {
		p := launch(t, tt.program, tt.args, tt.setting)
		p.exit(t, 1)
		if said := p.stderr.last(); !strings.Contains(said, tt.want) || strings.Contains(said, "\n") {
			t.Errorf("%s %s %v says %q, want one line with %q", tt.setting, tt.program, tt.args, said, tt.want)
		}
	}
}

// TestACommandReadsOnlyTheSettingsThatItUses starts every command with all the other settings wrong, as they may be on a
// machine where they are another program's, or while somebody looks for what keeps the service from starting.
func TestACommandReadsOnlyTheSettingsThatItUses(t *testing.T) {
	t.Parallel()
	help := launch(t, "stream", []string{"help"})
	help.exit(t, 0)
	names := regexp.MustCompile(`(?m)^  ([A-Z][A-Z_]+), --`).FindAllStringSubmatch(strings.Join(help.stdout.list(), "\n"), -1)
	if len(names) < 40 {
		t.Fatalf("want all settings in the help, found %d", len(names))
	}
	const away = "DATABASE_URL=postgres://127.0.0.1:1/d"
	databases := []string{"DATABASE_URL", "DATABASE_LISTEN_URL", "DATABASE_SECRET_ARN", "DATABASE_AUTH"}
	address := []string{"ADDRESS", "PORT", "MANAGE_ADDRESS", "MANAGE_PORT", "TLS_CERT_FILE", "TLS_KEY_FILE"}
	unnamed := []string{"DATABASE_URL", "DATABASE_SECRET_ARN"}
	for _, tt := range []struct {
		program string
		args    []string
		uses    []string // these are not wrong
		set     string
		code    int
		says    string // on stderr
	}{
		{"stream", []string{"help"}, nil, "", 0, ""},
		{"stream", []string{"version"}, nil, "", 0, ""},
		{"stream", []string{"tail", "--help"}, nil, "", 0, ""},
		{"stream", []string{"migrate"}, databases, away, 1, "connect to PostgreSQL"},
		{"stream", []string{"insert", "toto", "order.created", "{}"}, databases, away, 1, "connect to PostgreSQL"},
		{"stream", []string{"prune", "--older-than=720h"}, append(databases, "LOG_FORMAT", "LOG_LEVEL"), away, 1, "connect to PostgreSQL"},
		{"stream", []string{"tail", "toto"}, append(databases, "CLOUDEVENTS_SOURCE"), away, 1, "connect to PostgreSQL"},
		{"stream", []string{"doctor"}, databases, away, 1, "something to mend"},
		{"stream", []string{"doctor", "http://127.0.0.1:1"}, unnamed, "", 1, "something to mend"},
		{"stream", []string{"health"}, address, "PORT=1", 1, "connection refused"},
		{"poll", []string{"help"}, nil, "", 0, ""},
		{"poll", []string{"version"}, nil, "", 0, ""},
		{"poll", []string{"health"}, address, "PORT=1", 1, "connection refused"},
	} {
		var env []string
		for _, name := range names {
			if !slices.Contains(tt.uses, name[1]) {
				env = append(env, name[1]+"=:wrong,*")
			}
		}
		p := launch(t, tt.program, tt.args, append(env, tt.set)...)
		p.exit(t, tt.code)
		if said := p.stderr.last(); !strings.Contains(said, tt.says) {
			t.Errorf("%s %v says %q, want it to say %q", tt.program, tt.args, said, tt.says)
		}
	}
	// What names a database is not looked at either where a service is asked.
	for _, set := range []string{"DATABASE_AUTH=rds-iam", "DATABASE_AUTH=wrong", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", away} {
		tail := launch(t, "stream", []string{"tail", "toto", "--url=http://127.0.0.1:1"}, set)
		tail.stderr.await(t, "tail to ask the service", func(line string) bool { return strings.HasPrefix(line, "disconnected") })
		tail.stop(t)
	}
}
