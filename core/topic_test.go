package core_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/core"
)

func grants(t *testing.T, lists ...string) core.Grants {
	t.Helper()
	g, err := core.ParseGrants(lists)
	if err != nil {
		t.Fatalf("ParseGrants(%q): %v", lists, err)
	}
	return g
}

func TestGrantsPermitNamesAndPrefixes(t *testing.T) {
	g := grants(t, "team-7, order-*", "a%2Cb,caf%C3%A9 , odd%2A,, 100%25,end%20")
	for topic, want := range map[string]bool{
		"team-7": true, "team-77": false, "team-": false,
		"order-17": true, "order-": true, "order": false, "order-*": true,
		"a,b": true, "a": false, "café": true, "odd*": true, "odd1": false, "100%": true, "end ": true, "end": false, "": false,
	} {
		if got := g.Permit(topic); got != want {
			t.Errorf("Permit(%q) = %t, want %t", topic, got, want)
		}
	}
	if !grants(t, "*").Permit("anything") {
		t.Error("* does not grant every topic")
	}
	if (core.Grants{}).Permit("") || grants(t, "", " , ").Permit("a") {
		t.Error("no grants grant something")
	}
}

func TestFollowsAreThoseAskedForOrThePlainNames(t *testing.T) {
	g := grants(t, "team-7,order-*,me,team-7,team-8")
	for _, tt := range []struct {
		name  string
		asked []string
		want  string
		err   error
	}{
		{"nothing asked: every plain name", nil, "team-7 team-8", nil},
		{"an empty parameter: the own address alone", []string{}, "", nil},
		{"of a prefix, by name", []string{"order-17", "team-7", "order-17", "me"}, "order-17 team-7", nil},
		{"not granted", []string{"team-9"}, "", core.ErrNotGranted},
		{"one of several not granted", []string{"team-7", "orders"}, "", core.ErrNotGranted},
		{"too many", []string{"order-1", "order-2", "order-3"}, "", core.ErrTooManyTopics},
	} {
		got, err := g.Follow("me", tt.asked, 2)
		if !errors.Is(err, tt.err) || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, %v, want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestTopicsThatCannotBeRead(t *testing.T) {
	for _, list := range []string{"a%", "a%2", "%zz", "%00", "a%0Ab", strings.Repeat("x", 256), "%ff", "a\nb*"} {
		if g, err := core.ParseGrants([]string{list}); err == nil {
			t.Errorf("ParseGrants(%q) = %v, want an error", list, g)
		}
		if topics, err := core.ParseTopics([]string{list}); err == nil {
			t.Errorf("ParseTopics(%q) = %q, want an error", list, topics)
		}
	}
	many := strings.Repeat("x,", core.MaxGrants+1)
	if topics, err := core.ParseTopics([]string{many}); err == nil {
		t.Errorf("%d topics were read, want an error", len(topics))
	}
	if topics, _ := core.ParseTopics(nil); topics != nil {
		t.Errorf("ParseTopics(nil) = %q, want nil", topics)
	}
	if topics, err := core.ParseTopics([]string{""}); topics == nil || len(topics) != 0 || err != nil {
		t.Errorf("ParseTopics of an empty parameter = %v, %v, want none", topics, err)
	}
}

func FuzzParseGrants(f *testing.F) {
	for _, seed := range []string{"team-7, order-*", "a%2Cb", "%", "*", ",,", "caf%C3%A9", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		g, err := core.ParseGrants([]string{list})
		if err != nil {
			return
		}
		follows, err := g.Follow("", nil, core.MaxGrants)
		if err != nil {
			t.Fatalf("grants %q cannot be followed: %v", list, err)
		}
		for _, topic := range follows {
			if core.CheckName(topic) != nil || !g.Permit(topic) {
				t.Errorf("%q follows %q", list, topic)
			}
		}
		// What is asked for by the same text is granted, but for the prefixes.
		asked, err := core.ParseTopics([]string{list})
		if err != nil {
			return
		}
		asked = slices.DeleteFunc(asked, func(topic string) bool { return strings.HasSuffix(topic, "*") })
		for _, topic := range asked {
			if !g.Permit(topic) {
				t.Errorf("%q does not permit %q", list, topic)
			}
		}
	})
}
