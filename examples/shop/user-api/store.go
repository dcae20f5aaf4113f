package main

import (
	"errors"
	"slices"
	"sync"
)

// maxUsers bounds the store, so that clients cannot drive the service into its MemoryMax.
const maxUsers = 10_000

var errFull = errors.New("the store is full")

type user struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

// store holds users in the order of their IDs, which start at 1.
type store struct {
	mu    sync.RWMutex
	users []user
}

func newStore() *store {
	return &store{users: []user{{ID: 1, Name: "Ada"}, {ID: 2, Name: "Grace"}}}
}

func (s *store) all() []user {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.users)
}

func (s *store) get(id int) (user, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id < 1 || id > len(s.users) {
		return user{}, false
	}
	return s.users[id-1], true
}

func (s *store) add(name string) (user, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.users) >= maxUsers {
		return user{}, errFull
	}
	added := user{ID: len(s.users) + 1, Name: name}
	s.users = append(s.users, added)
	return added, nil
}
