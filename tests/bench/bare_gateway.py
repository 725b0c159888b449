"""The floor of bdgateway: the same libraries, answering the same bytes without asking anybody. bare_gateway.py DNS_PORT HTTP_PORT"""

from __future__ import annotations

import asyncio
import sys
import threading

import dns.message
import dns.rrset
import waitress

BODY = b'{"url": "http://127.0.0.1:8080/axis/Echo?wsdl", "node": "n1", "service": "Echo", "phase": 1, "asked": []}\n'


class Echo(asyncio.DatagramProtocol):
    """A parse, an answer."""

    def connection_made(self, transport):
        """The socket is ready."""
        self.transport = transport

    def datagram_received(self, data, addr):
        """One query."""
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 0, "IN", "A", "127.0.0.1"))
        self.transport.sendto(answer.to_wire(), addr)


def app(environ, start_response):
    """An answer."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]


def main():
    """Until it is ended."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", int(sys.argv[1]))))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = waitress.create_server(app, host="127.0.0.1", port=int(sys.argv[2]))
    print("ready", flush=True)
    server.run()


if __name__ == "__main__":
    main()
