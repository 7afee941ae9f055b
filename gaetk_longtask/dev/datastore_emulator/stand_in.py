"""Stands in for ``googledatastore``, a Python 2 package that Google's Datastore stub imports.

The stub uses its messages of ``google.datastore.v1``, as plain protobuf classes, and a few helpers.
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
    """Named in ``except`` clauses of the stub; never raised."""


def install() -> None:
    """Put the stand-in where ``import googledatastore`` finds it; do this before the stub is imported."""
    module: Any = ModuleType("googledatastore")
    for source in (datastore, entity, query):
        for name in source.__all__:
            setattr(module, name, getattr(source, name).pb())
    operators = dict(module.PropertyFilter.Operator.items())
    # An operator of the private API; no request contains it.
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
