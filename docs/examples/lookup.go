// Calls a service through the gateway of this host: go run lookup.go SERVICE
//
// A GET of the gateway's /SERVICE is answered with 307 to the host that takes the call, and net/http follows it. Host and port can
// be had by DNS as well: net.Resolver's LookupSRV, where the host's resolver sends the domain to the gateway.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func gateway() string {
	if given := os.Getenv("BDSERVER_GATEWAY"); given != "" {
		return given
	}
	return "http://127.0.0.1:9080"
}

// call returns what the service says, and the host that said it. A host may end between its word and the call: it is asked again.
func call(client *http.Client, service string) (said []byte, host string, err error) {
	for try := 0; try < 3; try++ {
		var answer *http.Response
		if answer, err = client.Get(gateway() + "/" + service); err != nil {
			continue
		}
		said, err = io.ReadAll(answer.Body)
		answer.Body.Close()
		if err == nil && answer.StatusCode == http.StatusNotFound {
			return nil, "", fmt.Errorf("%s", said)
		}
		if err == nil && answer.StatusCode == http.StatusOK {
			return said, answer.Request.URL.Host, nil
		}
		if err == nil {
			err = fmt.Errorf("%s: %s", answer.Status, said)
		}
	}
	return nil, "", err
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run lookup.go SERVICE")
		os.Exit(2)
	}
	client := &http.Client{Timeout: 20 * time.Second}
	said, host, err := call(client, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lookup.go:", err)
		os.Exit(1)
	}
	fmt.Printf("%d bytes, by %s\n", len(said), host)
}
