// Command worker takes jobs off a queue, one per tick, until it is told to stop.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	queueLength = 16
	jobSize     = 64 << 10 // bytes
)

func main() {
	interval := flag.Duration("interval", 20*time.Millisecond, "time between two jobs")
	flag.Parse()
	if *interval <= 0 {
		log.Fatal("worker: --interval must be positive")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	queue := make(chan []byte, queueLength)
	go produce(ctx, queue)
	log.Print("worker ready")
	log.Printf("worker stopped after %d jobs", consume(queue, *interval))
}

// produce keeps the queue filled and closes it when ctx is done.
func produce(ctx context.Context, queue chan<- []byte) {
	defer close(queue)
	for {
		select {
		case queue <- make([]byte, jobSize):
		case <-ctx.Done():
			return
		}
	}
}

// consume works one job per tick and returns how many it did; jobs already queued are finished first.
func consume(queue <-chan []byte, interval time.Duration) (done int) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for job := range queue {
		sum := sha256.Sum256(job)
		done++
		if done%500 == 0 {
			log.Printf("worker: %d jobs done, last %x", done, sum[:4])
		}
		<-ticker.C
	}
	return done
}
