package core_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
)

func TestParseCursor(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "5": 5, "007": 7, "281474976710655": core.MaxID,
		"281474976710656": core.MaxID, "99999999999999999999999": core.MaxID,
		"": -1, "-1": -1, "+1": -1, "1.0": -1, "1e3": -1, " 1": -1, "0x10": -1, "1_000": -1, "٣": -1, "toto": -1,
	} {
		got, err := core.ParseCursor(s)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("cursor %q: %d, %v; want %d (-1: an error)", s, got, err, want)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"0", "5", "281474976710656", "-1", "+1", "1e3", "", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := core.ParseCursor(s)
		if got < 0 || got > core.MaxID {
			t.Errorf("cursor %q: %d, want at most %d", s, got, int64(core.MaxID))
		}
		digits := s != "" && strings.Trim(s, "0123456789") == ""
		if (err == nil) != digits {
			t.Errorf("cursor %q: %v, want an error unless it is digits", s, err)
		}
		if n, parseErr := strconv.ParseInt(s, 10, 64); digits && parseErr == nil && n <= core.MaxID && got != n {
			t.Errorf("cursor %q: %d, want %d", s, got, n)
		}
	})
}

func TestParseTypes(t *testing.T) {
	many := slices.Repeat([]string{"a"}, core.MaxTypes)
	for _, test := range []struct {
		lists []string
		want  core.Types
		ok    bool
	}{
		{nil, nil, true},
		{[]string{""}, nil, true},
		{[]string{"a,b", "c"}, core.Types{"a", "b", "c"}, true},
		{[]string{"order created"}, core.Types{"order created"}, true},
		{[]string{"é☃"}, core.Types{"é☃"}, true},
		{many, many, true},
		{append(many, "b"), nil, false},
		{[]string{"a,,b"}, nil, false},
		{[]string{","}, nil, false},
		{[]string{"a\nb"}, nil, false},
		{[]string{"a\x7f"}, nil, false},
		{[]string{"a\u0085"}, nil, false},
		{[]string{"\xff"}, nil, false},
		{[]string{strings.Repeat("é", core.MaxNameLength)}, core.Types{strings.Repeat("é", core.MaxNameLength)}, true},
		{[]string{strings.Repeat("é", core.MaxNameLength+1)}, nil, false},
	} {
		got, err := core.ParseTypes(test.lists)
		if (err == nil) != test.ok || err == nil && !slices.Equal(got, test.want) {
			t.Errorf("types %q: %q, %v; want %q, accepted %t", test.lists, got, err, test.want, test.ok)
		}
	}
}

var spacesAtCommas = regexp.MustCompile(`[ \t]*,[ \t]*`)

func FuzzParseTypes(f *testing.F) {
	f.Add("a,b", "c")
	f.Add("", "a\n")
	f.Add("a , b", " \t")
	f.Fuzz(func(t *testing.T, first, second string) {
		types, err := core.ParseTypes([]string{first, second})
		if err != nil {
			if types != nil {
				t.Errorf("types %q with error %v", types, err)
			}
			return
		}
		for _, typ := range types {
			if err := core.CheckName(typ); err != nil || !types.Want(typ) || strings.Contains(typ, ",") {
				t.Errorf("%q, %q gave type %q: %v", first, second, typ, err)
			}
		}
		var lists []string
		for _, list := range []string{first, second} {
			if list = strings.Trim(list, " \t"); list != "" {
				lists = append(lists, spacesAtCommas.ReplaceAllString(list, ","))
			}
		}
		if got, want := strings.Join(types, ","), strings.Join(lists, ","); got != want {
			t.Errorf("%q, %q gave %q, want all of %q", first, second, got, want)
		}
	})
}

func FuzzAppendCompact(f *testing.F) {
	for _, s := range []string{
		`{"foo":"bar"}`, " { \"a\" : [ 1 , 2.0e+400 , -0 ] ,\r\n\t\"b\" : \"x \\\" y \\\\\" } ", `"\\"`, `"\\\""`, `""`, `[]`,
		`{"é\u2028":"<&>"}`, `12345678901234567890.0`, `null`, "\"\u2028\xff\"", `["a" ,"b\\" , "c"]`, `"`, `"\`, `\"`, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		got := core.AppendCompact([]byte("before"), src)
		if !json.Valid(src) {
			return // what comes out does not matter, that something does
		}
		want := bytes.NewBufferString("before")
		if err := json.Compact(want, src); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%q became %q, want %q", src, got, want)
		}
	})
}
