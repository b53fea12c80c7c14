package openapi

import (
	"errors"
	"net/url"

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
		if _, err := url.Parse(c.Source); err != nil || c.Source == "" {
			return errors.New("is not a URI reference")
		}
		return nil
	})
}
