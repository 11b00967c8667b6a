"""What a running node counts, for a monitor on its own machine: no label and no value says anything about a person.

Labels are province codes, methods, statuses and probe names, all from fixed lists, so that nobody outside can make
the series grow. Served as text in the Prometheus format, on a loopback address alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from node.budget import Scope, day_of, left
from node.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from node.budget import Budgets
    from node.notary import Lag
    from node.readiness import Probe
    from node.runtime import NodeRuntime
    from node.store import Spending, Throttle

NOBODY: Final = "unknown"  # the peer of a call whose certificate was not accepted
SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)


class Metrics:
    """The counters and gauges of one node; may be used from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "pulang_calls", "Calls on the federation port.", ("method", "peer", "status"), registry=self.registry
        )
        self._call_seconds = Histogram(
            "pulang_call_seconds",
            "From a call's arrival until its answer is handed to gRPC.",
            ("method",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._answers = Counter(
            "pulang_answers", "Questions by what was answered.", ("peer", "outcome"), registry=self.registry
        )
        self._answer_seconds = Histogram(
            "pulang_answer_seconds",
            "A question's time by phase: queued for a thread, searched, recorded in the database.",
            ("phase",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._ready = Gauge("pulang_probe_ok", "1: the probe found nothing wrong.", ("probe",), registry=self.registry)
        self._certificate = Gauge(
            "pulang_certificate_seconds_left", "Life left of the node's own certificate.", registry=self.registry
        )
        self._membership = Gauge(
            "pulang_membership_seconds_left", "Life left of the membership in use.", registry=self.registry
        )
        self._version = Gauge("pulang_membership_version", "Version of the membership.", registry=self.registry)
        self._reloads = Gauge(
            "pulang_reload_failures", "Reloads that failed since the start.", ("what",), registry=self.registry
        )
        self._ends = Gauge(
            "pulang_seconds_left", "Life left of whatever ends some day.", ("what",), registry=self.registry
        )
        self._clocks = Gauge(
            "pulang_clock_offset_seconds",
            "A peer's clock less this one's, where heard.",
            ("peer",),
            registry=self.registry,
        )
        self._persons = Gauge("pulang_registry_persons", "Persons in the index in use.", registry=self.registry)
        self._budget = Gauge(
            "pulang_budget_left", "New questions a peer may still ask today.", ("peer",), registry=self.registry
        )
        self._held_back = Gauge(
            "pulang_held_back",
            "Alarms of the sweep monitor that hold a peer or its operators back until a person releases them.",
            ("peer",),
            registry=self.registry,
        )
        self._unsigned = Gauge(
            "pulang_audit_unsigned_rows", "Rows of the audit log above its last signed head.", registry=self.registry
        )
        self._signed_age = Gauge(
            "pulang_audit_signed_age_seconds", "Age of the audit log's last signed head.", registry=self.registry
        )
        self._uncosigned = Gauge(
            "pulang_audit_uncosigned_rows",
            "Rows of the audit log above the last head a witness has cosigned.",
            ("witness",),
            registry=self.registry,
        )

    def called(self, method: str, peer: str | None, status: str, seconds: float) -> None:
        """Count one call on the federation port. status: the gRPC status it ended with."""
        self._calls.labels(method, peer or NOBODY, status).inc()
        self._call_seconds.labels(method).observe(seconds)

    def answered(self, peer: str, outcome: str, *, queued_s: float, searched_s: float, recorded_s: float) -> None:
        """Count one question that the answering service has ended."""
        self._answers.labels(peer, outcome).inc()
        for phase, seconds in (("queued", queued_s), ("searched", searched_s), ("recorded", recorded_s)):
            self._answer_seconds.labels(phase).observe(seconds)

    def looked(self, runtime: NodeRuntime, probes: tuple[Probe, ...], now: datetime) -> None:
        """Take over what the readiness probes have just seen."""
        for probe in probes:
            self._ready.labels(probe.name).set(probe.problem is None)
        membership = runtime.membership
        self._certificate.set((runtime.credentials.get().not_after - now).total_seconds())
        self._membership.set((membership.expires_at - now).total_seconds())
        self._version.set(membership.version)
        for name, value in (("credentials", runtime.credentials), ("membership", runtime.memberships)):
            self._reloads.labels(name).set(value.failures)
        self._ends.clear()
        for deadline in runtime.calendar.get():
            self._ends.labels(deadline.what).set((deadline.ends_at - now).total_seconds())
        self._clocks.clear()
        for code, offset in runtime.clocks.offsets().items():
            self._clocks.labels(code).set(offset.seconds)
        current = runtime.generations.current
        self._persons.set(current.index.size if current else 0)

    def accounted(
        self, spent: Sequence[Spending], held: Sequence[Throttle], budgets: Budgets, log: Lag, now: datetime
    ) -> None:
        """Take over what peers have spent of their budgets, who is held back, and how far the audit log is signed."""
        whole = {each.peer for each in held if each.operator_pseudonym is None}
        self._budget.clear()
        for each in spent:
            budget = budgets.of(Scope.PEER, throttled=each.peer in whole)
            self._budget.labels(each.peer).set(left(budget, each.by_day, day_of(now)))
        self._held_back.clear()
        for peer in sorted({each.peer for each in spent} | {each.peer for each in held}):
            self._held_back.labels(peer).set(sum(each.peer == peer for each in held))
        self._unsigned.set(log.size - log.signed)
        if log.signed_at is not None:
            self._signed_age.set((now - log.signed_at).total_seconds())
        self._uncosigned.clear()
        for witness, size in log.cosigned.items():
            self._uncosigned.labels(witness).set(log.size - size)


@contextmanager
def serve_metrics(metrics: Metrics, address: str | None) -> Iterator[None]:
    """Serve /metrics at a loopback address while the block runs; with None, nowhere. Raises BusyError."""
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), metrics.registry)
    except OSError as error:
        raise BusyError(
            f"cannot serve metrics at {address}: {error.strerror}", hint="change `metrics_listen` in node.toml"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
