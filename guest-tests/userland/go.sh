# The Go compiler, goroutines that are preempted, a server.
export GOCACHE=/tmp/go-cache GOPATH=/tmp/go GO111MODULE=off
go build -o hello /soak/hello.go
./hello
GOMAXPROCS=4 GOGC=5 ./hello
