package gatewaytest

// BuildTags are those that bootstraps are deployed with (Makefile, .goreleaser.yaml), and so tested.
const BuildTags = "lambda.norpc,nethttpomithttp2,nopgxregisterdefaulttypes"
