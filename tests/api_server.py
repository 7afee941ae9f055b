"""App Engine's API server as in production: Google's own memcache stub behind HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from google.appengine.api import apiproxy_stub_map
from google.appengine.api.memcache import memcache_service_pb2
from google.appengine.api.memcache.memcache_stub import MemcacheServiceStub
from google.appengine.ext.remote_api.remote_api_bytes_pb2 import Request, Response, RpcError
from google.appengine.runtime import context
from google.appengine.runtime.default_api_stub import DefaultApiStub

#: The ticket of a request. The server accepts no other.
TICKET = "a ticket"


class ApiServer(ThreadingHTTPServer):
    """Answers memcache calls that have the right ticket."""

    daemon_threads = True
    request_queue_size = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.memcache = MemcacheServiceStub()

    @property
    def host(self) -> str:
        """The address as ``host:port``."""
        return f"127.0.0.1:{self.server_port}"

    def answer(self, request: Request) -> Response:
        response = Response()
        if request.request_id != TICKET:
            response.rpc_error.code = RpcError.SECURITY_VIOLATION
            return response
        asked = getattr(memcache_service_pb2, f"Memcache{request.method}Request").FromString(request.request)
        answer = getattr(memcache_service_pb2, f"Memcache{request.method}Response")()
        self.memcache.MakeSyncCall(request.service_name, request.method, asked, answer)
        response.response = answer.SerializeToString()
        return response


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet per response
    server: ApiServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        data = self.server.answer(Request.FromString(body)).SerializeToString()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Suppress the log."""


@contextmanager
def api_server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def led_to(host: str) -> dict[str, str]:
    """Return the environment variables with the address of an API server for the SDK."""
    name, _, port = host.rpartition(":")
    return {"API_HOST": name, "API_PORT": port}


@contextmanager
def in_a_request(host: str) -> Iterator[None]:
    """Prepare this thread like ``wrap_wsgi_app`` does for a request, so that it can call App Engine's services.

    ``wrap_wsgi_app`` can't be used here: it permanently replaces parts of ``threading`` and ``os`` for the process.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in led_to(host).items():
            patch.setenv(name, value)
        patch.setattr(apiproxy_stub_map, "apiproxy", _apiproxy())
        patch.setattr(context, "READ_FROM_OS_ENVIRON", False)
        token = context.gae_headers.API_TICKET.set(TICKET)
        DefaultApiStub.SetUseRequestSecurityTicketForThread(True)
        yield
        DefaultApiStub.SetUseRequestSecurityTicketForThread(False)
        context.gae_headers.API_TICKET.reset(token)


@cache
def _apiproxy() -> apiproxy_stub_map.APIProxyStubMap:
    """Return the production client. It has its own threads, so one is enough."""
    return apiproxy_stub_map.APIProxyStubMap(DefaultApiStub())
