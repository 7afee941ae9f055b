"""Cloud Tasks on one machine: the real API, over gRPC and REST on one port, for unmodified clients.

``python -m gaetk_longtask.dev.tasks_emulator --port 8123 --app http://127.0.0.1:8080`` starts it alone; `serve` starts
it in this process. The client reads no environment variable, so pass it a transport::

    with serve(app_url="http://127.0.0.1:8080") as emulator:
        transport = CloudTasksGrpcTransport(channel=grpc.insecure_channel(emulator.host))
        client = tasks_v2.CloudTasksClient(transport=transport)

It behaves like production, as far as that is documented or was captured. The differences:

* It asks for no credentials. OIDC tokens for HTTP targets are signed by a key of its own, which is at
  ``/oauth2/v3/certs``. OAuth tokens are unsigned.
* ``POST /reset`` deletes everything, also the names that may not be used again.
* A service or version without a route is served by ``--app``.
* It refuses the names of finished tasks for as long as production, but remembers at most a million.
* A queue that gets 503 halves its rate and doubles it again every ten seconds; production's curve is not documented.
  A queue does not ramp up slowly and is not disabled after 30 days.
* `Queue.http_target`, IAM policies, locations, encryption keys and the versions v2beta2 and v2beta3 are answered with
  UNIMPLEMENTED.
"""

from __future__ import annotations

from gaetk_longtask.dev.tasks_emulator.queue_yaml import QueueYamlError
from gaetk_longtask.dev.tasks_emulator.server import Emulator, PortTakenError, serve
from gaetk_longtask.dev.tasks_emulator.store import StoreError

__all__ = ["Emulator", "PortTakenError", "QueueYamlError", "StoreError", "serve"]
