//go:build unix

package blackbox_test

import (
	"strings"
	"testing"
)

// TestASettingThatTakesAnotherIsNotPassedOver gives every program what makes sense with another setting alone. What belongs to
// a database would otherwise lead to the one of development.
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
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"doctor", "http://127.0.0.1:1"}},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"migrate"}},
		{"stream", "DATABASE_AUTH=rds-iam", signIn, []string{"prune", "--older-than=720h"}},
		{"poll", "DATABASE_AUTH=rds-iam", signIn, nil},
		{"stream", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", around, nil},
		{"stream", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", around, []string{"tail", "toto"}},
		{"stream", "DATABASE_LISTEN_URL=postgres://127.0.0.1:1/d", around, []string{"doctor", "http://127.0.0.1:1"}},
		{"stream", "MANAGE_ADDRESS=127.0.0.1", "MANAGE_ADDRESS: takes a MANAGE_PORT", nil},
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
