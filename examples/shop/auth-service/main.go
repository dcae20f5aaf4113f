// Command auth-service issues and verifies signed tokens over HTTP.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	host := flag.String("host", "127.0.0.1", "address to listen on")
	port := flag.Int("port", 8081, "port to listen on")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := serve(ctx, net.JoinHostPort(*host, strconv.Itoa(*port))); err != nil {
		log.Fatalf("auth-service: %v", err)
	}
}

// serve listens on addr until ctx is done, then lets open requests finish.
func serve(ctx context.Context, addr string) error {
	issuer, err := newIssuer()
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              addr,
		Handler:           routes(issuer),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("auth-service listening on %s", addr)

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Print("auth-service stopping")
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}
