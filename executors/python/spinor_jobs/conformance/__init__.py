"""The conformance kit: runs any executor program as a consumer would, and checks each MUST of the protocol.

``python -m spinor_jobs.conformance -- PROGRAM ARGS``. The program serves `kit.echo` (succeeds with its args),
`kit.fail`, `kit.sleep` (``{"seconds": n}``), `kit.print` (writes to its standard output), `kit.retry` and
`kit.discard`; `kit.publish` (publishes one `kit.echo` and succeeds) and `kit.child` (``{"seconds": n}``: starts a child
that lives so long, and does not wait for it) may be served, too.
"""

from .checks import CHECKS, Finding, examine

__all__ = ["CHECKS", "Finding", "examine"]
