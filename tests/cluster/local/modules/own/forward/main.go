// Command forward passes TCP connections on: from a listening socket that it inherits to the address in its
// argument. The listener may belong to another network namespace than the process, which is how an address inside a
// cluster's namespace is reached from the machine's loopback.
//
// A name in the address is looked up for each connection, at -dns if given, so a Service that was made anew
// under another address is found again. Bytes are spliced in the kernel; the end of one direction is passed
// on alone, so a client that has finished sending still gets its answer.
package main

import (
	"context"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"time"
)

// A target that is being replaced has nobody behind it for a moment: its next pod is waited for this long.
const (
	dialTimeout = 5 * time.Second
	dialPause   = 100 * time.Millisecond
)

func main() {
	descriptor := flag.Int("fd", 3, "file descriptor of the listening socket")
	dns := flag.String("dns", "", "address (host:port) of the DNS server that knows the target's name")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("usage: forward [-fd NUMBER] [-dns HOST:PORT] HOST:PORT")
	}
	listener, err := net.FileListener(os.NewFile(uintptr(*descriptor), "listener"))
	if err != nil {
		log.Fatalf("file descriptor %d is no listening socket: %v", *descriptor, err)
	}
	dialer := &net.Dialer{}
	if *dns != "" {
		dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, *dns)
		}}
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			// Out of file descriptors, or a client that left before it was accepted: the next one may fare better.
			log.Printf("accept: %v", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		go pass(client.(*net.TCPConn), dialer, flag.Arg(0))
	}
}

func pass(client *net.TCPConn, dialer *net.Dialer, target string) {
	defer client.Close()
	connection, err := dial(dialer, target)
	if err != nil {
		log.Printf("%s: %v", target, err)
		// A reset tells the client at once that nobody answers; a plain close would look like an empty answer.
		client.SetLinger(0)
		return
	}
	server := connection.(*net.TCPConn)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		shovel(server, client)
	}()
	shovel(client, server)
	<-done
}

func dial(dialer *net.Dialer, target string) (net.Conn, error) {
	limit, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	for {
		connection, err := dialer.DialContext(limit, "tcp", target)
		if err == nil {
			return connection, nil
		}
		select {
		case <-limit.Done():
			return nil, err
		case <-time.After(dialPause):
		}
	}
}

// shovel copies until one side ends. A clean end closes the other's writing half alone; a broken one closes both
// connections, so that neither side waits for a peer that is gone.
func shovel(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.SetLinger(0)
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
