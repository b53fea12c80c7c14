package settings

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

type values struct {
	port      int
	heartbeat time.Duration
	format    string
	origins   []string
	url       string
	address   string
}

func exampleSet() (*values, *Set) {
	var v values
	s := New("stream", "Streams events.")
	s.Section("Server")
	s.Int(&v.port, "PORT", 4000, Between(0, 65535), "TCP port to listen on.")
	s.String(&v.address, "ADDRESS", "", "Address to listen on.")
	s.Duration(&v.heartbeat, "HEARTBEAT_INTERVAL", 10*time.Second, Between(time.Second, time.Hour), "Silence before a heartbeat.")
	s.Section("Other")
	s.Choice(&v.format, "LOG_FORMAT", "auto", []string{"auto", "text", "json"}, "Format of the log.")
	s.List(&v.origins, "CORS_ORIGINS", "Origins that may read.")
	s.Secret(&v.url, "DATABASE_URL", "Where the a|b events are.")
	s.Check("ADDRESS", func() error {
		if v.address == "nowhere" && v.port == 1 {
			return errors.New("is nowhere")
		}
		return nil
	})
	return &v, s
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for _, pair := range pairs {
			if v, ok := strings.CutPrefix(pair, name+"="); ok {
				return v
			}
		}
		return ""
	}
}

func TestAFlagBeatsTheEnvironmentWhichBeatsTheDefault(t *testing.T) {
	tests := map[string]struct {
		args []string
		env  []string
		want int
	}{
		"default":                   {nil, nil, 4000},
		"environment":               {nil, []string{"PORT=4001"}, 4001},
		"empty environment":         {nil, []string{"PORT="}, 4000},
		"flag":                      {[]string{"--port", "4002"}, nil, 4002},
		"flag over environment":     {[]string{"--port=4002"}, []string{"PORT=4001"}, 4002},
		"flag over wrong variable":  {[]string{"--port=4002"}, []string{"PORT=abc"}, 4002},
		"flag that repeats default": {[]string{"--port=4000"}, []string{"PORT=4001"}, 4000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, s := exampleSet()
			if err := s.Parse(tt.args, env(tt.env...)); err != nil {
				t.Fatal(err)
			}
			if v.port != tt.want {
				t.Errorf("port: want %d, got %d", tt.want, v.port)
			}
		})
	}
}

func TestEveryKindOfSettingIsRead(t *testing.T) {
	v, s := exampleSet()
	err := s.Parse([]string{"--heartbeat-interval", "1m30s"},
		env("LOG_FORMAT=json", "CORS_ORIGINS= https://a.example ,,https://b.example", "DATABASE_URL=postgres://u:p@h/d"))
	if err != nil {
		t.Fatal(err)
	}
	if v.heartbeat != 90*time.Second || v.format != "json" || v.url != "postgres://u:p@h/d" ||
		!slices.Equal(v.origins, []string{"https://a.example", "https://b.example"}) {
		t.Errorf("values differ from what was given: %+v", *v)
	}
}

func TestAWrongValueIsOneLineThatNamesTheSetting(t *testing.T) {
	tests := map[string]struct {
		args     []string
		env      []string
		want     string
		wantCode int
	}{
		"not a number":     {nil, []string{"PORT=abc"}, `PORT: "abc" is not a whole number from 0 to 65535`, 1},
		"out of range":     {nil, []string{"PORT=65536"}, `PORT: "65536" is not a whole number from 0 to 65535`, 1},
		"two lines":        {nil, []string{"PORT=1\n2"}, `PORT: "1\n2" is not a whole number from 0 to 65535`, 1},
		"no unit":          {nil, []string{"HEARTBEAT_INTERVAL=10"}, `HEARTBEAT_INTERVAL: "10" is not a duration from 1s to 1h, with a unit (ms, s, m, h)`, 1},
		"not a choice":     {nil, []string{"LOG_FORMAT=xml"}, `LOG_FORMAT: "xml" is not one of auto, text, json`, 1},
		"check":            {nil, []string{"PORT=1", "ADDRESS=nowhere"}, `ADDRESS: is nowhere`, 1},
		"check of a flag":  {[]string{"--address=nowhere"}, []string{"PORT=1"}, `ADDRESS (--address): is nowhere`, 2},
		"wrong flag value": {[]string{"--port", "abc"}, nil, `PORT (--port): "abc" is not a whole number from 0 to 65535`, 2},
		"two of them":      {nil, []string{"PORT=abc", "LOG_FORMAT=xml"}, "PORT: \"abc\" is not a whole number from 0 to 65535\nLOG_FORMAT: \"xml\" is not one of auto, text, json", 1},
		"flag and another": {[]string{"--port", "abc"}, []string{"LOG_FORMAT=xml"}, "PORT (--port): \"abc\" is not a whole number from 0 to 65535\nLOG_FORMAT: \"xml\" is not one of auto, text, json", 2},
		"two flags":        {[]string{"--port", "abc", "--log-format=xml"}, nil, "PORT (--port): \"abc\" is not a whole number from 0 to 65535\nLOG_FORMAT (--log-format): \"xml\" is not one of auto, text, json", 2},
		"misspelt flag":    {[]string{"--prot", "1"}, nil, `unknown flag --prot: did you mean --port?`, 2},
		"with one dash":    {[]string{"-log-fromat=text"}, nil, `unknown flag --log-fromat: did you mean --log-format?`, 2},
		"unknown flag":     {[]string{"--verbose"}, nil, `unknown flag --verbose: --help lists them`, 2},
		"missing value":    {[]string{"--port"}, nil, `flag needs an argument: -port`, 2},
		"stray argument":   {[]string{"--port", "1", "x"}, nil, `unexpected argument "x"`, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, s := exampleSet()
			err := s.Parse(tt.args, env(tt.env...))
			if err == nil || err.Error() != tt.want {
				t.Errorf("want %q, got %v", tt.want, err)
			}
			if got := ExitCode(err); got != tt.wantCode {
				t.Errorf("exit code: want %d, got %d", tt.wantCode, got)
			}
		})
	}
}

func TestArgumentsStandBeforeAndAfterFlags(t *testing.T) {
	for _, args := range [][]string{{"a", "b", "--port=1"}, {"--port=1", "a", "b"}, {"a", "--port", "1", "b"}, {"--port=1", "a", "--", "b"}} {
		v, s := exampleSet()
		s.Takes("first", "second")
		if err := s.Parse(args, env()); err != nil || s.Arg(0) != "a" || s.Arg(1) != "b" || s.Arg(2) != "" || v.port != 1 {
			t.Errorf("%q: want a, b and port 1, got %q, %q, %d (%v)", args, s.Arg(0), s.Arg(1), v.port, err)
		}
	}
	_, s := exampleSet()
	s.Takes("payload")
	if err := s.Parse([]string{"--", "-5"}, env()); err != nil || s.Arg(0) != "-5" {
		t.Errorf("want what follows -- as it is, got %q (%v)", s.Arg(0), err)
	}
	if err := s.Parse([]string{"a", "b"}, env()); ExitCode(err) != 2 {
		t.Errorf("want one too many refused, got %v", err)
	}
}

func TestHelpPrintsEverySettingWithItsDefault(t *testing.T) {
	_, s := exampleSet()
	var out strings.Builder
	s.Output = &out
	err := s.Parse([]string{"--help"}, env("DATABASE_URL=hunter2", "PORT=abc"))
	if !errors.Is(err, flag.ErrHelp) || ExitCode(err) != 0 {
		t.Errorf("want flag.ErrHelp and exit code 0, got %v and %d", err, ExitCode(err))
	}
	want := `Usage: stream [flags]

Streams events.

Each setting is an environment variable and a flag; the flag wins.

Server:
  PORT, --port (default 4000)
        TCP port to listen on. Takes a whole number from 0 to 65535.
  ADDRESS, --address
        Address to listen on.
  HEARTBEAT_INTERVAL, --heartbeat-interval (default 10s)
        Silence before a heartbeat. Takes a duration from 1s to 1h, with a unit (ms, s, m, h).

Other:
  LOG_FORMAT, --log-format (default auto)
        Format of the log. Takes one of auto, text, json.
  CORS_ORIGINS, --cors-origins
        Origins that may read. Takes a comma-separated list.
  DATABASE_URL, --database-url
        Where the a|b events are.
`
	if out.String() != want {
		t.Errorf("want:\n%s\ngot:\n%s", want, out.String())
	}
}

func TestMarkdownIsATableForEachSection(t *testing.T) {
	_, s := exampleSet()
	want := "| Server | Default | Meaning |\n|---|---|---|\n" +
		"| `PORT` | `4000` | TCP port to listen on. Takes a whole number from 0 to 65535. |\n" +
		"| `ADDRESS` |  | Address to listen on. |\n"
	if got := s.Markdown(); !strings.HasPrefix(got, want) {
		t.Errorf("want it to begin with:\n%s\ngot:\n%s", want, got)
	}
	if got := s.Markdown(); !strings.HasSuffix(got, "| `DATABASE_URL` |  | Where the a\\|b events are. |\n") {
		t.Errorf("want a bar in a cell to be escaped, got:\n%s", got)
	}
}

func TestDurationsAreWrittenShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 10 * time.Second: "10s", time.Minute: "1m", 90 * time.Second: "1m30s",
		time.Hour: "1h", 24 * time.Hour: "24h", 250 * time.Millisecond: "250ms", time.Hour + time.Second: "1h0m1s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v: want %s, got %s", d, want, got)
		}
	}
}

// TestAPrefixIsOfTheVariableAlone: a variable that is there for another program changes nothing.
func TestAPrefixIsOfTheVariableAlone(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  []string
		want string
	}{
		{nil, []string{"URL=other"}, ""},
		{nil, []string{"URL=other", "EVENT_PIPER_URL=ours"}, "ours"},
		{[]string{"--url=flag"}, []string{"EVENT_PIPER_URL=ours"}, "flag"},
	} {
		var url, plain string
		s := New("tail", "Prints events.")
		s.Prefix("EVENT_PIPER_")
		s.String(&url, "URL", "", "Where the service is.")
		s.Prefix("")
		s.String(&plain, "PLAIN", "", "Something else.")
		if err := s.Parse(c.args, env(append(c.env, "PLAIN=yes")...)); err != nil || url != c.want || plain != "yes" {
			t.Errorf("%v %v: got %q and %q (%v)", c.args, c.env, url, plain, err)
		}
	}
}

func TestWhatIsNotUsedMayBeWrong(t *testing.T) {
	parse := func(args []string, variables ...string) error {
		var url, auth string
		s := New("stream tail", "Prints events.")
		s.String(&url, "URL", "", "Where the service is.")
		s.When(func() bool { return url == "" })
		s.Choice(&auth, "DATABASE_AUTH", "password", []string{"password", "token"}, "How to sign in.")
		s.Check("DATABASE_AUTH", func() error {
			if auth == "token" {
				return errors.New("a token takes a database")
			}
			return nil
		})
		return s.Parse(args, func(name string) string {
			for _, v := range variables {
				if value, ok := strings.CutPrefix(v, name+"="); ok {
					return value
				}
			}
			return ""
		})
	}
	for _, value := range []string{"nonsense", "token"} {
		variable := "DATABASE_AUTH=" + value
		if err := parse(nil, variable); err == nil {
			t.Errorf("%s: want it refused where it is used", variable)
		}
		if err := parse([]string{"--url", "http://events"}, variable); err != nil {
			t.Errorf("%s: want it passed over where it is not used, got %v", variable, err)
		}
		if err := parse(nil, variable, "URL=http://events"); err != nil {
			t.Errorf("%s: want it passed over where a variable says that it is not used, got %v", variable, err)
		}
		if err := parse([]string{"--url", "http://events", "--database-auth", value}); err == nil {
			t.Errorf("--database-auth %s: want a wrong flag refused always: somebody has just written it", value)
		}
	}
}
