"""bdgateway: the mesh for programs that speak DNS or HTTP; a client of the local socket, with no rights of its own."""
