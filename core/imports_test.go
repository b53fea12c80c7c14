package core_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/event-piper/event-piper/"

// forbidden lists, for the packages below a path, what they must not import even indirectly, and why.
var forbidden = []struct {
	below, imports, why string
}{
	{"core/sse", module + "postgresql", "streams know sessions, not where events are stored"},
	{"core/sse", module + "openapi", "the plain handler must not depend on the API's framework"},
	{"openapi", module + "postgresql", "the API knows pollers, not where events are stored"},
	{"openapi", module + "core/sse", "the API runs in a Lambda, too, where there are no streams"},
	{"postgresql", module + "openapi", "a store knows nothing of who reads it"},
	{"postgresql", module + "core/sse", "a store knows nothing of who reads it"},
	{"postgresql", "net/http", "a store knows nothing of who reads it"},
	{"functions/poll", module + "core/sse", "polls have no streams: functions/stream has"},
	{"functions/poll", module + "postgresql/devdb", "a development PostgreSQL has no place in a deployment"},
	{"functions/stream", module + "postgresql/devdb", "a development PostgreSQL has no place in a deployment"},
	{"functions/poll", "go.opentelemetry.io/otel/sdk/trace", "a function starts with each burst of requests, and its binary is to stay small"},
	{"functions/stream", "go.opentelemetry.io/otel/sdk/trace", "a function starts with each burst of requests, and its binary is to stay small"},
	{"functions/poll", module + "postgresql/migrations", "a function leaves the schema to its owner, and its binary is to stay small"},
	{"functions/stream", module + "postgresql/migrations", "a function leaves the schema to its owner, and its binary is to stay small"},
	{"functions/poll", "github.com/aws/aws-sdk-go-v2/config", "Lambda gives a function its credentials, and the search for others is large"},
	{"functions/stream", "github.com/aws/aws-sdk-go-v2/config", "Lambda gives a function its credentials, and the search for others is large"},
	{"functions/stream", "testing", "test support has no place in a binary"},
	{"cmd/poll", "testing", "test support has no place in a binary"},
	{"functions/poll", "testing", "test support has no place in a binary"},
}

type goPackage struct {
	ImportPath    string
	Imports, Deps []string
	Standard      bool
}

func list(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Standard", "../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImports(t *testing.T) {
	packages := list(t)
	seen := map[string]bool{}
	for _, p := range packages {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, rule := range forbidden {
			if path != rule.below && (!strings.HasPrefix(path, rule.below+"/") || strings.HasPrefix(path, "postgresql/")) {
				continue
			}
			seen[rule.below] = true
			for _, dep := range p.Deps {
				if dep == rule.imports {
					t.Errorf("%s imports %s: %s", path, dep, rule.why)
				}
			}
		}
		if p.ImportPath == module+"core" {
			for _, dep := range p.Imports {
				if strings.Contains(strings.SplitN(dep, "/", 2)[0], ".") {
					t.Errorf("core imports %s: the domain imports only the standard library", dep)
				}
			}
		}
	}
	for _, rule := range forbidden {
		if !seen[rule.below] {
			t.Errorf("the rule for %s applies to no package", rule.below)
		}
	}
}
