package openapi

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/settings"
)

// Settings are what an operator decides about the events that readers get.
type Settings struct {
	// MaxTopics is how many topics a session may follow.
	MaxTopics int
	// Source is the source of CloudEvents, a URI reference.
	Source string
}

// Define defines the settings.
func (c *Settings) Define(s *settings.Set) {
	s.Section("Events")
	s.Int(&c.MaxTopics, "MAX_TOPICS", core.DefaultTopics, settings.Between(0, core.MaxGrants), "Topics that one session may follow besides its consumer's own address.")
	s.String(&c.Source, "CLOUDEVENTS_SOURCE", "event-piper", "Source of the events in the format of CloudEvents, a URI reference.")
	s.Check("CLOUDEVENTS_SOURCE", func() error {
		if _, err := url.Parse(c.Source); err != nil || c.Source == "" || strings.ContainsFunc(c.Source, isNotOfURI) {
			return fmt.Errorf("%q is not a URI reference", c.Source)
		}
		return nil
	})
}

// isNotOfURI reports a character that no URI has (RFC 3986, appendix A), which url.Parse lets pass.
func isNotOfURI(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune("-._~:/?#[]@!$&'()*+,;=%", r)
}
