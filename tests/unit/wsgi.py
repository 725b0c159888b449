"""A call of a WSGI application, as a web server makes it."""


def answer(application, query="", path="", method="GET", **environ):
    said = {}

    def start_response(status, headers):
        said.update(status=status, headers=dict(headers))

    environ = {"REQUEST_METHOD": method, "QUERY_STRING": query, "PATH_INFO": path} | environ
    said["body"] = b"".join(application(environ, start_response))
    return said
