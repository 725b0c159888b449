"""What `make demo` needs and a node does not: real hosts on loopback, a web container, sample services, the story."""
