# rustc and cargo: a program with threads, generics, floating point and a panic that is caught.
rustc -O -o hello /soak/hello.rs
./hello
cargo new -q --vcs none project
cp /soak/hello.rs project/src/main.rs
cd project && cargo build -q --offline && ./target/debug/project
