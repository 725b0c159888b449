"""One conversation with another node: TLS, and requests and answers on it. The net knows neither files nor processes."""
