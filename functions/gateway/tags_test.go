package gateway_test

import (
	"os"
	"strings"
	"testing"

	"github.com/event-piper/event-piper/functions/gateway/gatewaytest"
)

// TestWhatIsDeployedIsWhatIsTested: with other build tags, a bootstrap does other things.
func TestWhatIsDeployedIsWhatIsTested(t *testing.T) {
	for file, want := range map[string]string{
		"Makefile":         "\nLAMBDA_TAGS = " + gatewaytest.BuildTags + "\n",
		".goreleaser.yaml": "\n    tags: [" + strings.ReplaceAll(gatewaytest.BuildTags, ",", ", ") + "]\n",
	} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) || strings.Count(string(text), "lambda.norpc") != strings.Count(string(text), strings.TrimSpace(want)) {
			t.Errorf("%s: want no build tags of functions but those they are tested with, %s", file, gatewaytest.BuildTags)
		}
	}
}
