"""Serves a function over its unix socket, with nothing but the standard library.

    serve(handler)

calls handler(call, body) for each call, one at a time. It returns bytes or text; an
exception is an answer 502, which callers see as a function that failed.
"""

import os
import socketserver
import sys
import traceback
from http.server import BaseHTTPRequestHandler


class Call:
    """What is known of a call, and what its answer is to have."""

    def __init__(self, headers):
        self.headers = headers
        self.id = headers.get("Fn-Call-Id", "")
        self.deadline = headers.get("Fn-Deadline", "")
        # Calls through an HTTP trigger: the client's request.
        self.is_http = headers.get("Fn-Intent") == "httprequest"
        self.method = headers.get("Fn-Http-Method", "")
        self.url = headers.get("Fn-Http-Request-Url", "")
        # The answer. The status counts for triggers only.
        self.status = 200
        self.content_type = "application/json"
        self.answer_headers = []

    def client_header(self, name, default=None):
        """A header that the client of a trigger sent, or the caller of a function."""
        return self.headers.get("Fn-Http-H-" + name if self.is_http else name, default)

    def set_header(self, name, value):
        self.answer_headers.append((name, value))


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Connections may overlap, calls do not."""

    daemon_threads = True


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # the answer leaves in one piece
    handler = None

    def do_POST(self):
        body = self._read_body()
        call = Call(self.headers)
        _frame(call)
        try:
            answer = type(self).handler(call, body)
            status = 200
        except Exception:
            traceback.print_exc()
            answer, status = '{"message":"the function failed"}', 502
        if isinstance(answer, str):
            answer = answer.encode()
        self.send_response(status)
        self.send_header("Content-Type", call.content_type)
        self.send_header("Content-Length", str(len(answer)))
        prefix = ""
        if call.is_http:
            prefix = "Fn-Http-H-"
            self.send_header("Fn-Http-Status", str(call.status))
        for name, value in call.answer_headers:
            self.send_header(prefix + name, value)
        self.end_headers()
        self.wfile.write(answer)

    def _read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return bytes(body)

    def log_message(self, *_):
        pass  # the server has its own log of calls


def _frame(call):
    """Marks in the output where a call begins, if the function's configuration asks for it."""
    name, header = os.environ.get("FN_LOGFRAME_NAME"), os.environ.get("FN_LOGFRAME_HDR")
    if name and header and call.headers.get(header):
        for stream in (sys.stdout, sys.stderr):
            print(f"\n{name}={call.headers[header]}", file=stream, flush=True)


def serve(handler):
    """Serves until the process is ended."""
    listener = os.environ["FN_LISTENER"].removeprefix("unix:")
    directory, name = os.path.split(listener)
    _Connection.handler = staticmethod(handler)
    server = _Server(os.path.join(directory, "phony" + name), _Connection)
    os.chmod(os.path.join(directory, "phony" + name), 0o666)
    # The name appears last: it is the sign that calls can come.
    os.symlink("phony" + name, listener)
    server.serve_forever()
