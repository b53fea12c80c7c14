package gateway_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// stack is a template with its parameters given and its conditions decided.
type stack struct {
	t          *testing.T
	parameters map[string]any
	conditions map[string]any
	resources  map[string]any
}

func newStack(t *testing.T, template map[string]any, parameters map[string]string) *stack {
	t.Helper()
	s := &stack{t: t, parameters: map[string]any{}, resources: map[string]any{}}
	for name, p := range template["Parameters"].(map[string]any) {
		s.parameters[name] = get(p, "Default")
	}
	types := template["Parameters"].(map[string]any)
	for name, value := range parameters {
		if types[name] == nil {
			t.Fatalf("the template has no parameter %s", name)
		}
		s.parameters[name] = value
	}
	s.conditions = template["Conditions"].(map[string]any)
	for name, r := range template["Resources"].(map[string]any) {
		if condition, ok := get(r, "Condition").(string); !ok || s.holds(s.conditions[condition]) {
			s.resources[name] = s.resolve(r)
		}
	}
	return s
}

// gone is what AWS::NoValue stands for.
type gone struct{}

// resolve decides Fn::If and replaces references to parameters; what else a function would give stays as it is.
func (s *stack) resolve(v any) any {
	switch v := v.(type) {
	case []any:
		out := []any{}
		for _, e := range v {
			if e := s.resolve(e); !is[gone](e) {
				out = append(out, e)
			}
		}
		return out
	case map[string]any:
		if branches, ok := v["Fn::If"].([]any); ok {
			if s.holds(s.conditions[branches[0].(string)]) {
				return s.resolve(branches[1])
			}
			return s.resolve(branches[2])
		}
		if name, ok := v["Ref"].(string); ok {
			if name == "AWS::NoValue" {
				return gone{}
			}
			if value, ok := s.parameters[name]; ok {
				return value
			}
		}
		out := map[string]any{}
		for key, e := range v {
			if e := s.resolve(e); !is[gone](e) {
				out[key] = e
			}
		}
		return out
	}
	return v
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

func (s *stack) holds(condition any) bool {
	s.t.Helper()
	c, _ := condition.(map[string]any)
	for function, args := range c {
		all, _ := args.([]any)
		switch function {
		case "Fn::Equals":
			return fmt.Sprint(s.resolve(all[0])) == fmt.Sprint(s.resolve(all[1]))
		case "Fn::Contains":
			list := strings.Split(fmt.Sprint(s.resolve(all[0])), ",") // a parameter of a type like CommaDelimitedList
			return slices.Contains(list, fmt.Sprint(s.resolve(all[1])))
		case "Fn::Not":
			return !s.holds(all[0])
		case "Fn::And":
			return !slices.ContainsFunc(all, func(a any) bool { return !s.holds(a) })
		case "Fn::Or":
			return slices.ContainsFunc(all, s.holds)
		case "Condition":
			return s.holds(s.conditions[args.(string)])
		}
	}
	s.t.Fatalf("a condition that this test cannot decide: %v", condition)
	return false
}

// refused reports whether one of the template's rules refuses the parameters.
func (s *stack) refused(rules map[string]any) bool {
	for _, rule := range rules {
		if condition := get(rule, "RuleCondition"); condition != nil && !s.holds(condition) {
			continue
		}
		for _, assertion := range get(rule, "Assertions").([]any) {
			if !s.holds(get(assertion, "Assert")) {
				return true
			}
		}
	}
	return false
}

// get walks down by keys; nil where there is nothing.
func get(v any, keys ...string) any {
	for _, key := range keys {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func (s *stack) ofType(kind string) map[string]any {
	found := map[string]any{}
	for name, r := range s.resources {
		if get(r, "Type") == kind {
			found[name] = get(r, "Properties")
		}
	}
	return found
}

// one returns the properties of the only resource of a type.
func (s *stack) one(kind string) any {
	s.t.Helper()
	found := s.ofType(kind)
	if len(found) != 1 {
		s.t.Fatalf("want one %s, got %v", kind, found)
	}
	for _, properties := range found {
		return properties
	}
	return nil
}
