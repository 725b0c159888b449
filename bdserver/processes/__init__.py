"""What runs: listener, children, discoverer, and what each of them holds in memory."""
