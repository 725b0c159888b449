"""What lies on disk, a module a file. Files know neither the net nor processes."""
