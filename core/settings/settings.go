// Package settings reads a program's settings from its environment and from flags of the same name:
// PORT and --port, HEARTBEAT_INTERVAL and --heartbeat-interval. A flag beats the environment, which
// beats the default. The help text and the table of docs/operating.md come from the same definitions.
package settings

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Set is the settings of one program, in the order in which they were defined.
type Set struct {
	// Output is where --help prints; standard output unless changed.
	Output io.Writer

	program, synopsis string
	takes             []string // the names of arguments
	args              []string
	flags             *flag.FlagSet
	section, prefix   string
	used              func() bool
	settings          []*setting
	checks            []check
	// failed are the wrong values of flags: the flag package would stop at the first.
	failed []error
}

type setting struct {
	name, flag, section string
	def, takes, help    string
	set                 func(string) error
	used                func() bool // nil is always
	fromFlag            bool
}

type check struct {
	of  *setting
	run func() error
}

// New returns an empty set. The synopsis says in a line or more what the program does.
func New(program, synopsis string) *Set {
	s := &Set{
		Output: os.Stdout, program: program, synopsis: synopsis,
		flags: flag.NewFlagSet(program, flag.ContinueOnError),
	}
	s.flags.SetOutput(io.Discard) // errors are returned, and printed once, by the caller
	s.flags.Usage = func() {}
	return s
}

// Section puts the settings defined after it under a heading.
func (s *Set) Section(heading string) { s.section = heading }

// Prefix begins the environment variables of the settings defined after it, not their flags: a name like URL or TYPE alone
// may be there for some other program.
func (s *Set) Prefix(prefix string) { s.prefix = prefix }

// When says of the settings defined after it that what is wrong with their variables counts only if used holds, which is
// asked when all have been read. What is in the environment for another command must not stop one that does not need it.
func (s *Set) When(used func() bool) { s.used = used }

// Range bounds a value, both ends included.
type Range[T cmp.Ordered] struct{ Min, Max T }

// Between is the range from the lowest to the highest value taken.
func Between[T cmp.Ordered](lowest, highest T) Range[T] { return Range[T]{lowest, highest} }

func (r Range[T]) contains(v T) bool { return v >= r.Min && v <= r.Max }

// String defines a text.
func (s *Set) String(p *string, name, def, help string) {
	*p = def
	s.define(&setting{name: name, def: def, help: help, set: func(v string) error {
		*p = v
		return nil
	}})
}

// Secret defines a text whose value is never printed, with no default.
func (s *Set) Secret(p *string, name, help string) { s.String(p, name, "", help) }

// Int defines a whole number.
func (s *Set) Int(p *int, name string, def int, r Range[int], help string) {
	takes := fmt.Sprintf("a whole number from %d to %d", r.Min, r.Max)
	define(s, p, name, def, strconv.Itoa(def), takes, help, func(v string) (int, bool) {
		n, err := strconv.Atoi(v)
		return n, err == nil && r.contains(n)
	})
}

// Duration defines a length of time, written as Go writes it: 10s, 1m30s, 250ms.
func (s *Set) Duration(p *time.Duration, name string, def time.Duration, r Range[time.Duration], help string) {
	takes := fmt.Sprintf("a duration from %s to %s, with a unit (ms, s, m, h)", short(r.Min), short(r.Max))
	define(s, p, name, def, short(def), takes, help, func(v string) (time.Duration, bool) {
		d, err := time.ParseDuration(v)
		return d, err == nil && r.contains(d)
	})
}

// Choice defines a text that is one of those allowed.
func (s *Set) Choice(p *string, name, def string, allowed []string, help string) {
	takes := "one of " + strings.Join(allowed, ", ")
	define(s, p, name, def, def, takes, help, func(v string) (string, bool) {
		return v, slices.Contains(allowed, v)
	})
}

// List defines texts separated by commas, with the spaces around them cut off; none unless given.
func (s *Set) List(p *[]string, name, help string) {
	define(s, p, name, nil, "", "a comma-separated list", help, func(v string) ([]string, bool) {
		var list []string
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, true
	})
}

// Check adds a condition that takes more than one value to decide, tried once all are read. Its error
// is reported as one of the setting with this environment variable, which must be defined before.
func (s *Set) Check(name string, condition func() error) {
	for _, d := range s.settings {
		if d.name == name {
			s.checks = append(s.checks, check{d, condition})
			return
		}
	}
	panic("settings: a check of " + name + ", which is not defined")
}

func define[T any](s *Set, p *T, name string, def T, shown, takes, help string, parse func(string) (T, bool)) {
	*p = def
	s.define(&setting{name: name, def: shown, takes: takes, help: help, set: func(text string) error {
		v, ok := parse(text)
		if !ok {
			return fmt.Errorf("%q is not %s", text, takes)
		}
		*p = v
		return nil
	}})
}

func (s *Set) define(d *setting) {
	d.section, d.used = s.section, s.used
	d.flag = strings.ReplaceAll(strings.ToLower(d.name), "_", "-")
	d.name = s.prefix + d.name
	s.settings = append(s.settings, d)
	s.flags.Func(d.flag, d.help, func(v string) error {
		d.fromFlag = true
		if err := d.set(v); err != nil {
			s.failed = append(s.failed, d.failure(err))
		}
		return nil
	})
}

// Parse gives every setting its value. An environment variable that is set but empty counts as not
// set, and one that a flag overrides is not looked at. After --help it has printed the help and
// returns [flag.ErrHelp]. Any other error is for the operator, a line for each wrong setting: whoever starts
// a program wants to know all of them at once. [ExitCode] tells a wrong command line from a wrong environment.
func (s *Set) Parse(args []string, getenv func(string) string) error {
	s.failed, s.args = nil, nil
	err := s.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		if _, werr := io.WriteString(s.Output, s.Help()); werr != nil {
			return fmt.Errorf("print help: %w", werr)
		}
		return err
	case err != nil:
		return &UsageError{s.withHint(err)}
	case len(s.args) > len(s.takes):
		return &UsageError{fmt.Errorf("unexpected argument %q", s.args[len(s.takes)])}
	}
	wrong := map[*setting]error{}
	for _, d := range s.settings {
		v := getenv(d.name)
		if v == "" || d.fromFlag {
			continue
		}
		if err := d.set(v); err != nil {
			wrong[d] = d.failure(err)
		}
	}
	failed := s.failed
	for _, d := range s.settings {
		if err := wrong[d]; err != nil && d.counts() {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return errors.Join(failed...) // conditions on wrong values would only confuse
	}
	for _, c := range s.checks {
		if !c.of.counts() {
			continue
		}
		if err := c.run(); err != nil {
			failed = append(failed, c.of.failure(err))
		}
	}
	return errors.Join(failed...)
}

// Takes names the arguments that may be given besides flags, before or after them.
func (s *Set) Takes(names ...string) { s.takes = names }

// Arg returns an argument, or "" if it was not given.
func (s *Set) Arg(i int) string {
	if i < len(s.args) {
		return s.args[i]
	}
	return ""
}

// parse goes on behind each argument, where the flag package stops; what follows "--" are arguments alone.
func (s *Set) parse(args []string) error {
	for {
		if err := s.flags.Parse(args); err != nil {
			return err
		}
		rest := s.flags.Args()
		if read := len(args) - len(rest); read > 0 && args[read-1] == "--" {
			s.args = append(s.args, rest...)
			return nil
		}
		if len(rest) == 0 {
			return nil
		}
		s.args, args = append(s.args, rest[0]), rest[1:]
	}
}

// withHint adds to the flag package's error which flag may have been meant.
func (s *Set) withHint(err error) error {
	_, name, unknown := strings.Cut(err.Error(), "flag provided but not defined: ")
	if !unknown {
		return err
	}
	var flags []string
	for _, d := range s.settings {
		flags = append(flags, "--"+d.flag)
	}
	name = "--" + strings.TrimLeft(name, "-")
	if nearest := Nearest(name, flags); nearest != "" {
		return fmt.Errorf("unknown flag %s: did you mean %s?", name, nearest)
	}
	return fmt.Errorf("unknown flag %s: --help lists them", name)
}

func (d *setting) counts() bool { return d.used == nil || d.fromFlag || d.used() }

func (d *setting) failure(err error) error {
	if d.fromFlag {
		return &UsageError{fmt.Errorf("%s (--%s): %w", d.name, d.flag, err)}
	}
	return fmt.Errorf("%s: %w", d.name, err)
}

// UsageError reports a wrong command line: an unknown flag, a stray argument, a wrong value of a flag.
type UsageError struct{ err error }

// Usage returns a UsageError.
func Usage(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

func (e *UsageError) Error() string { return e.err.Error() }
func (e *UsageError) Unwrap() error { return e.err }

// ExitCode is what a program that ends with err tells its parent: 0 for success and for help, 2 for a
// wrong command line, 1 for everything else.
func ExitCode(err error) int {
	var usage *UsageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

// short writes a duration without the units that are zero: 1h, not 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
