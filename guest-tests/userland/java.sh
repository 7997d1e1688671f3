# Garbage collection with several threads, compiled code, exceptions.
javac -d . /soak/Collect.java
java -Xmx64m -XX:+UseG1GC Collect
java -Xmx64m -XX:+UseSerialGC Collect
