"""Cloud Tasks on one machine: the real gRPC API for an unmodified `google-cloud-tasks` client.

``python -m gaetk_longtask.dev.tasks_emulator --port 8123 --app http://127.0.0.1:8080`` starts it alone; `serve` starts
it in this process. The client reads no environment variable, so it is given a transport::

    with serve(app_url="http://127.0.0.1:8080") as emulator:
        transport = CloudTasksGrpcTransport(channel=grpc.insecure_channel(emulator.host))
        client = tasks_v2.CloudTasksClient(transport=transport)

It does what production does, where that is documented or has been captured. Where it differs:

* Nobody is asked for credentials, and tokens for HTTP targets are unsigned (``alg: none``).
* A service or version that no route names is served by ``--app``.
* The names of finished tasks are refused for as long as in production, but no more than a million are remembered.
* A queue that gets 503 halves its rate, and doubles it again every ten seconds; production's curve is not documented.
  Nor does a queue ramp up slowly, or fall asleep after 30 days.
* `Queue.http_target`, IAM policies, locations and encryption keys are answered with UNIMPLEMENTED.
"""

from __future__ import annotations

from gaetk_longtask.dev.tasks_emulator.queue_yaml import QueueYamlError
from gaetk_longtask.dev.tasks_emulator.server import Emulator, PortTakenError, serve
from gaetk_longtask.dev.tasks_emulator.store import StoreError

__all__ = ["Emulator", "PortTakenError", "QueueYamlError", "StoreError", "serve"]
