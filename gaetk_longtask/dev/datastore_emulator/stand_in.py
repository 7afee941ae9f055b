"""Stands in for ``googledatastore``, a package of Python 2 days that Google's Datastore stub is written against.

The stub takes from it the messages of ``google.datastore.v1`` as plain protobuf classes and a few helpers;
``google-cloud-datastore`` has the same messages under another name.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from google.cloud.datastore_v1.types import datastore, entity, query
from google.protobuf.struct_pb2 import NULL_VALUE
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2


class RPCError(Exception):
    """Named in ``except`` clauses of the stub, raised by nobody."""


def install() -> None:
    """Put the stand-in where ``import googledatastore`` finds it; the stub looks for it once, when imported."""
    module: Any = ModuleType("googledatastore")
    for source in (datastore, entity, query):
        for name in source.__all__:
            setattr(module, name, getattr(source, name).pb())
    operators = dict(module.PropertyFilter.Operator.items())
    # An operator of the private API; no request carries it.
    module.PropertyFilter = SimpleNamespace(**operators, HAS_PARENT=-1)
    module.VERSION = (6, 0, 0)
    module.NULL_VALUE = NULL_VALUE
    module.RPCError = RPCError
    module.code_pb2 = code_pb2
    module.helper = SimpleNamespace(
        micros_from_timestamp=Timestamp.ToMicroseconds,
        micros_to_timestamp=lambda micros, timestamp: timestamp.FromMicroseconds(micros),
    )
    sys.modules["googledatastore"] = module
