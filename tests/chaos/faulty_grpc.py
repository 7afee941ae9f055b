"""A proxy between a gRPC client and its server. It loses requests and replies, and does not interpret them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from typing import Any, NoReturn

import grpc

_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_LONGEST_CALL_SECONDS = 60.0
#: How late a call may be carried out that has failed for its client.
LATEST_SECONDS = 8.0


class Fault(Enum):
    """The kinds of faults."""

    REQUEST = auto()  #: the call is not carried out
    REPLY = auto()  #: the call is carried out, but its reply is lost
    LATE = auto()  #: the call fails, but is carried out afterwards


class FaultyGrpc:
    """A proxy on its own port. `rate` is the share of calls that fail, `latency_seconds` how long each call waits.

    `heard` is called with method, request and reply of every call that was carried out. Only calls for which
    `is_delayable` returns True are carried out late. It must not allow calls that overwrite data unconditionally.
    """

    def __init__(
        self,
        target: str,
        rng: random.Random,
        *,
        is_delayable: Callable[[str, bytes], bool] = lambda method, request: False,
        heard: Callable[[str, bytes, bytes], None] = lambda method, request, reply: None,
    ) -> None:
        self.target = target
        self.rate = 0.0
        self.latency_seconds = 0.0
        self.faults: Counter[Fault] = Counter()
        self.calls = 0
        self._rng = rng
        self._lock = threading.Lock()
        self._is_delayable = is_delayable
        self._heard = heard
        self._channel = grpc.insecure_channel(target, options=_OPTIONS)
        self._server = grpc.server(ThreadPoolExecutor(max_workers=64), options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_AnyMethod(self._serve),))
        self.host = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        """Stop, and abort running calls."""
        self._server.stop(grace=None).wait()
        self._channel.close()

    def _serve(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        fault, code, seconds = self._draw(method, request)
        time.sleep(self.latency_seconds)
        if fault is Fault.LATE:
            threading.Thread(target=self._pass_on_late, args=(method, request), daemon=True).start()
        reply = self._pass_on(method, request, context) if fault in (None, Fault.REPLY) else b""
        if fault is not None:
            time.sleep(seconds)
            _abort(context, code, f"lost on the way: {fault}")
        return reply

    def _draw(self, method: str, request: bytes) -> tuple[Fault | None, grpc.StatusCode, float]:
        with self._lock:
            self.calls += 1
            if self._rng.random() >= self.rate:
                return None, grpc.StatusCode.OK, 0.0
            fault = self._rng.choices((Fault.REQUEST, Fault.REPLY, Fault.LATE), (4, 4, 2))[0]
            code, seconds = self._rng.choice(_CODES), self._rng.uniform(0, 0.3)
            if fault is Fault.LATE and not self._is_delayable(method, request):
                fault = Fault.REQUEST
            self.faults[fault] += 1
            return fault, code, seconds

    def _pass_on_late(self, method: str, request: bytes) -> None:
        time.sleep(random.uniform(0, LATEST_SECONDS))
        self._pass_on(method, request, None)

    def _pass_on(self, method: str, request: bytes, context: grpc.ServicerContext | None) -> bytes:
        left = context.time_remaining() if context is not None else None
        timeout = _LONGEST_CALL_SECONDS if left is None else min(left, _LONGEST_CALL_SECONDS)
        try:
            reply: bytes = self._channel.unary_unary(method, None, None)(request, timeout=timeout)
        except grpc.RpcError as exc:
            if context is None:
                return b""
            answer: Any = exc
            _abort(context, answer.code(), answer.details() or "")
        self._heard(method, request, reply)
        return reply


class _AnyMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """Handles every method, with requests and replies as bytes."""

    def __init__(self, serve: Callable[[str, bytes, grpc.ServicerContext], bytes]) -> None:
        self._serve = serve

    def service(self, handler_call_details: Any) -> Any:
        method = str(handler_call_details.method)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._serve(method, request, context))


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> NoReturn:
    context.abort(code, details)
    raise AssertionError  # abort raises
