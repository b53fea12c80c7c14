package openapi

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// health describes the body of the health checks, which others serve.
type health struct {
	Status string `json:"status" enum:"UP,DOWN" example:"UP" doc:"UP while events are delivered."`
	Reason string `json:"reason,omitempty" example:"shutting down" doc:"Why they are not."`
}

func healthOperations(schemas huma.Registry) []*huma.Operation {
	schema := schemas.Schema(reflect.TypeFor[health](), true, "")
	answer := func(description string, example map[string]any) *huma.Response {
		return &huma.Response{Description: description, Content: map[string]*huma.MediaType{
			"application/json": {Schema: schema, Example: example},
		}}
	}
	up := answer("Up.", map[string]any{"status": "UP"})
	down := answer("Down: events are not being delivered, or the service is about to stop.", map[string]any{"status": "DOWN", "reason": "shutting down"})

	var operations []*huma.Operation
	for _, check := range []struct {
		path, id, summary, description string
		responses                      map[string]*huma.Response
	}{
		{
			"/manage/health", "getHealth", "Check health", "The same as readiness.",
			map[string]*huma.Response{"200": up, "503": down},
		},
		{
			"/manage/health/ready", "getReadiness", "Check readiness", "Whether an event that is committed now would be delivered.",
			map[string]*huma.Response{"200": up, "503": down},
		},
		{
			"/manage/health/live", "getLiveness", "Check liveness", "Whether the process answers. It says nothing about the database, so that an outage there restarts nothing.",
			map[string]*huma.Response{"200": up},
		},
	} {
		operations = append(operations, &huma.Operation{
			Method: http.MethodGet, Path: check.path,
			OperationID: check.id, Tags: []string{"health"},
			Summary: check.summary, Description: check.description,
			Security:  []map[string][]string{}, // of nobody
			Responses: check.responses,
		})
	}
	return operations
}
