package main

import (
	"encoding/json"
	"expvar"
	"io"
	"net/http"
	"net/http/pprof"
	"strconv"
)

const maxBody = 4 << 10 // bytes of a request's JSON

func routes(users *store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /users", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, users.all())
	})
	mux.HandleFunc("POST /users", users.handleAdd)
	mux.HandleFunc("GET /users/{id}", users.handleGet)
	mux.Handle("GET /debug/vars", expvar.Handler())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func (s *store) handleAdd(w http.ResponseWriter, r *http.Request) {
	var input struct {
		Name string `json:"name"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&input)
	if err != nil || input.Name == "" {
		http.Error(w, `expected {"name": "..."}`, http.StatusBadRequest)
		return
	}
	added, err := s.add(input.Name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInsufficientStorage)
		return
	}
	reply(w, http.StatusCreated, added)
}

func (s *store) handleGet(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	found, ok := s.get(id)
	if err != nil || !ok {
		http.NotFound(w, r)
		return
	}
	reply(w, http.StatusOK, found)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
