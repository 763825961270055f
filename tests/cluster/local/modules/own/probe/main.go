// Command probe is what a test pod runs: it asks the cluster from inside and prints what it learned.
//
//	probe resolve NAME       the addresses of a name, by the pod's own resolver
//	probe api PATH           the API server's answer, asked with the pod's service account
//	probe serve PORT         answers the first line of each connection, or its end, with the pod's host name and the length
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: probe resolve NAME | api PATH | serve PORT")
	}
	switch os.Args[1] {
	case "resolve":
		addresses, err := net.LookupHost(os.Args[2])
		check(err)
		fmt.Println(addresses)
	case "api":
		callAPI(os.Args[2])
	case "serve":
		serve(os.Args[2])
	default:
		log.Fatalf("probe does not know %q", os.Args[1])
	}
}

func callAPI(path string) {
	token, err := os.ReadFile(account + "token")
	check(err)
	authority, err := os.ReadFile(account + "ca.crt")
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}
	request, err := http.NewRequest("GET", "https://kubernetes.default.svc"+path, nil)
	check(err)
	request.Header.Set("Authorization", "Bearer "+string(token))
	answer, err := client.Do(request)
	check(err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	check(err)
	fmt.Println(answer.StatusCode, string(body))
}

func serve(port string) {
	listener, err := net.Listen("tcp", ":"+port)
	check(err)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() { <-end; os.Exit(0) }()
	name, _ := os.Hostname()
	for {
		connection, err := listener.Accept()
		check(err)
		go func() {
			defer connection.Close()
			line, _ := bufio.NewReader(connection).ReadBytes('\n')
			fmt.Fprintf(connection, "%s %d\n", name, len(line))
		}()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
