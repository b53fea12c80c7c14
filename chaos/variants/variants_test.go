package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A change of core must take the variants along, or they try nothing.
func TestWhatVariantsChangeIsThere(t *testing.T) {
	for _, v := range variants {
		source, err := os.ReadFile(filepath.Join("..", "..", "core", v.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), v.old); n != 1 {
			t.Errorf("%s: %q stands %d times in %s, want once", v.name, v.old, n, v.file)
		}
	}
}
