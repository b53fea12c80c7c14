package web

import (
	"testing"
	"time"

	"github.com/event-piper/event-piper/core/settings"
)

func parse(env map[string]string) (Config, error) {
	var c Config
	s := settings.New("stream", "")
	c.Define(s, 4000)
	err := s.Parse(nil, func(name string) string { return env[name] })
	return c, err
}

func TestDefaults(t *testing.T) {
	c, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Port != 4000 || c.MaxHeaderBytes != 16<<10 || c.MaxURLBytes != 8<<10 || c.LameDuck != 0 || c.DrainTime != 10*time.Second {
		t.Errorf("got %+v", c)
	}
}

func TestSettingsThatDoNotFitAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want string
	}{
		"a certificate without a key": {map[string]string{"TLS_CERT_FILE": "a"}, "TLS_KEY_FILE: TLS takes both TLS_CERT_FILE and TLS_KEY_FILE"},
		"a key without a certificate": {map[string]string{"TLS_KEY_FILE": "a"}, "TLS_KEY_FILE: TLS takes both TLS_CERT_FILE and TLS_KEY_FILE"},
		"an address without a port":   {map[string]string{"MANAGE_ADDRESS": "127.0.0.1"}, "MANAGE_ADDRESS: takes a MANAGE_PORT, without which /metrics and /manage stay at PORT"},
		"both":                        {map[string]string{"TLS_KEY_FILE": "a", "TLS_CERT_FILE": "b"}, ""},
		"origins":                     {map[string]string{"CORS_ORIGINS": "https://a.example, http://localhost:3000"}, ""},
		"every origin":                {map[string]string{"CORS_ORIGINS": "*"}, ""},
		"every origin and one":        {map[string]string{"CORS_ORIGINS": "*,https://a.example"}, "CORS_ORIGINS: * stands alone, without other origins"},
		"a host":                      {map[string]string{"CORS_ORIGINS": "a.example"}, `CORS_ORIGINS: "a.example" is not an origin such as https://app.example.com, nor *`},
		"a slash":                     {map[string]string{"CORS_ORIGINS": "https://a.example/"}, `CORS_ORIGINS: "https://a.example/" is not an origin such as https://app.example.com, nor *`},
		"a wildcard":                  {map[string]string{"CORS_ORIGINS": "https://*.example"}, `CORS_ORIGINS: "https://*.example" is not an origin such as https://app.example.com, nor *`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(tt.env)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("want %q, got %q", tt.want, got)
			}
		})
	}
}
