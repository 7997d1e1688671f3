package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Print("child")
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path)
	}))
	var group sync.WaitGroup
	spin := make(chan bool)
	go func() {
		for n := 0; ; n++ { // Only a signal preempts it.
			if n == -1 {
				close(spin)
			}
		}
	}()
	for n := 0; n < 50; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			path := fmt.Sprintf("/%d", n)
			response, err := http.Get("http://" + listener.Addr().String() + path)
			if err != nil {
				panic(err)
			}
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if string(body) != path {
				panic(string(body))
			}
		}(n)
	}
	group.Wait()
	output, err := exec.Command(os.Args[0], "again").Output()
	if err != nil || string(output) != "child" {
		panic(fmt.Sprint(err, string(output)))
	}
	fmt.Println("hello")
}
