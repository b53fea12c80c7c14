package devdb

import (
	"cmp"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// binaries are those of one PostgreSQL installation.
type binaries struct {
	dir     string // the directory above bin
	version string
}

// places are where packages put PostgreSQL, one directory per version, mostly outside of PATH.
var places = []string{
	"/usr/lib/postgresql/*",          // Debian, Ubuntu
	"/usr/pgsql-*",                   // the PostgreSQL project's RPMs
	"/usr/libexec/postgresql*",       // Alpine
	"/opt/homebrew/opt/postgresql@*", // Homebrew on ARM
	"/usr/local/opt/postgresql@*",    // Homebrew on Intel
	"/usr/local/pgsql",               // built from source
	"/Applications/Postgres.app/Contents/Versions/*",
}

// installed finds the installations of this machine: the one in PATH first, then the newest.
func installed() []binaries {
	var found []binaries
	for _, pattern := range places {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if b, ok := inspect(dir); ok {
				found = append(found, b)
			}
		}
	}
	slices.SortStableFunc(found, newerFirst)
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			if b, ok := inspect(filepath.Dir(filepath.Dir(path))); ok {
				found = slices.Insert(found, 0, b)
			}
		}
	}
	return found
}

// choose takes the first installation that fits the data, or the version to download.
func choose(found []binaries, major string) (dir, version string) {
	for _, b := range found {
		if major == "" || b.major() == major {
			return b.dir, b.version
		}
	}
	for _, v := range []embeddedpostgres.PostgresVersion{
		embeddedpostgres.V18, embeddedpostgres.V17, embeddedpostgres.V16, embeddedpostgres.V15, embeddedpostgres.V14,
	} {
		if major == "" || strings.HasPrefix(string(v), major+".") {
			return "", string(v)
		}
	}
	return "", ""
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+(\.[0-9]+)*)`)

// inspect reports whether dir/bin has a whole server. Scripts do not count: they wrap one elsewhere,
// and what they do besides is not known.
func inspect(dir string) (binaries, bool) {
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if !executable(filepath.Join(dir, "bin", program)) {
			return binaries{}, false
		}
	}
	output, err := exec.Command(filepath.Join(dir, "bin", "postgres"), "--version").Output()
	match := versionPattern.FindSubmatch(output)
	if err != nil || match == nil {
		return binaries{}, false
	}
	return binaries{dir: dir, version: string(match[1])}, true
}

func executable(path string) bool {
	if _, err := exec.LookPath(path); err != nil {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	magic := make([]byte, 2)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) != "#!"
}

func (b binaries) major() string {
	major, _, _ := strings.Cut(b.version, ".")
	return major
}

func newerFirst(a, b binaries) int {
	x, _ := strconv.Atoi(a.major())
	y, _ := strconv.Atoi(b.major())
	return cmp.Compare(y, x)
}
