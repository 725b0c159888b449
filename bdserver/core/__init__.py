"""What decides: pure functions and state, with no socket, file, clock or dice of their own."""
