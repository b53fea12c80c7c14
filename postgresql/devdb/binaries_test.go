package devdb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	found := []binaries{{"/in/path", "15.18"}, {"/newest", "17.5"}, {"/older", "16.9"}}
	tests := map[string]struct {
		found        []binaries
		major        string
		dir, version string
	}{
		"the one in PATH":                  {found, "", "/in/path", "15.18"},
		"the one the data was made by":     {found, "16", "/older", "16.9"},
		"a download of the data's version": {found, "14", "", "14.18.0"},
		"a download":                       {nil, "", "", "18.3.0"},
		"nothing":                          {found, "8.4", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, version := choose(tt.found, tt.major)
			if dir != tt.dir || version != tt.version {
				t.Errorf("choose(%v, %q) = %q, %q, want %q, %q", tt.found, tt.major, dir, version, tt.dir, tt.version)
			}
		})
	}
}

func TestWrapperScriptsAreNoInstallation(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) 15.18'\n"
		if err := os.WriteFile(filepath.Join(dir, "bin", program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if b, ok := inspect(dir); ok {
		t.Errorf("inspect found %+v in a directory of scripts", b)
	}
}

func TestOneLine(t *testing.T) {
	tests := map[string]struct{ err, want string }{
		"plain": {"connection refused", "connection refused"},
		"server log": {
			"could not start postgres using pg_ctl start:\nwaiting for server to start....2026-01-01 00:00:00.000 UTC [7] LOG:  starting\n" +
				"2026-01-01 00:00:00.001 UTC [7] FATAL:  lock file \"postmaster.pid\" already exists\n" +
				"2026-01-01 00:00:00.001 UTC [7] HINT:  Is another postmaster running?\n stopped waiting\npg_ctl: could not start server\nExamine the log output.\n",
			`FATAL: lock file "postmaster.pid" already exists`,
		},
		"initdb": {
			"unable to init database using 'initdb': exit status 1\ncreating directory ... initdb: error: could not create directory \"/x\": Permission denied\n",
			`error: could not create directory "/x": Permission denied`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := oneLine(errors.New(tt.err)); got != tt.want {
				t.Errorf("oneLine = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAHomeThatCannotBeWrittenIsNoCache(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir) // which a supervisor changes
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, home := range []string{"", filepath.Join(file, "cache")} {
		c, err := newCluster(job{Cache: home})
		if err != nil {
			t.Fatal(err)
		}
		defer c.remove()
		if c.Cache != filepath.Join(c.dir, "cache") {
			t.Errorf("%q: want a temporary cache, got %q", home, c.Cache)
		}
	}
	if !writable(filepath.Join(dir, "new", "cache")) {
		t.Error("want a directory made where there can be one")
	}
}

func TestWithoutANetworkTheCuresAreNamed(t *testing.T) {
	got := oneLine(errors.New("unable to connect to https://repo1.maven.org/maven2"))
	for _, cure := range []string{"install one", "DATABASE_URL", "reach that host"} {
		if !strings.Contains(got, cure) {
			t.Errorf("want %q in %q", cure, got)
		}
	}
}
