// A module of its own, so that what generated clients need is not what the service needs. The package api
// is generated beside a copy of this directory; see ../run.sh.
module client

go 1.26

require (
	github.com/oapi-codegen/runtime v1.8.0
	github.com/tmaxmax/go-sse v0.12.0
)

require (
	github.com/apapsch/go-jsonmerge/v2 v2.0.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
)
