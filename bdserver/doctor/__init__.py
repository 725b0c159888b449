"""What is wrong with this host: looked at from outside, before a daemon runs, while it does, and when it does no longer."""
