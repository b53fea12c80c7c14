package service

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/event-piper/event-piper/core"
	"github.com/event-piper/event-piper/core/problem"
)

const (
	// listed is how many sessions a list has unless asked otherwise, and mostListed the most that it may have.
	listed, mostListed = 100, 1000
)

// sessionRoutes adds the list of sessions and their end. It names consumers, so it is for operators alone.
func sessionRoutes(mux *http.ServeMux, hub *core.Hub) {
	mux.HandleFunc("GET /manage/sessions", func(w http.ResponseWriter, r *http.Request) {
		query, limit := r.URL.Query(), listed
		if text := query.Get("limit"); text != "" {
			var err error
			if limit, err = strconv.Atoi(text); err != nil || limit < 0 || limit > mostListed {
				problem.New(http.StatusBadRequest, "limit takes a whole number from 0 to "+strconv.Itoa(mostListed)).Write(w)
				return
			}
		}
		answer := struct {
			Sessions []core.SessionInfo `json:"sessions"`
			Total    int                `json:"total"`
		}{}
		answer.Sessions, answer.Total = hub.List(query.Get("consumer"), limit)
		writeJSON(w, answer)
	})
	mux.HandleFunc("DELETE /manage/sessions/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil || !hub.End(id) {
			problem.New(http.StatusNotFound, "there is no such session").Write(w)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /manage/sessions", func(w http.ResponseWriter, r *http.Request) {
		consumer := r.URL.Query().Get("consumer")
		if consumer == "" {
			problem.New(http.StatusBadRequest, "consumer takes the one whose sessions are to end").Write(w)
			return
		}
		writeJSON(w, map[string]int{"ended": hub.EndAll(consumer)})
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
}
