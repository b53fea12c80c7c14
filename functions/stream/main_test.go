package main

import (
	"testing"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
)

func TestTheTemplateSetsWhatTheFunctionKnows(t *testing.T) {
	gatewaytest.WantSettings(t, "StreamFunction", new(config).define)
}
