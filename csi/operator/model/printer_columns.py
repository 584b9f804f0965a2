"""What `kubectl get` prints of each kind: names, order and paths that people and scripts know."""

from __future__ import annotations

from dataclasses import dataclass

WIDE = 10  # priorities above 0 are printed with -o wide only


@dataclass(frozen=True, slots=True)
class Column:
    """`type`: as in OpenAPI. A date is printed as an age."""

    name: str
    path: str
    priority: int = 0
    type: str = "string"


AGE = Column("Age", ".metadata.creationTimestamp", type="date")
PHASE = Column("Phase", ".status.phase")
_DATASET_NAME = Column("Dataset", ".spec.dataset.name")
_DURATION = Column("Duration", ".status.duration")

DATASET = (
    Column("Ufs Total Size", ".status.ufsTotal"),
    Column("Cached", ".status.cacheStates.cached"),
    Column("Cache Capacity", ".status.cacheStates.cacheCapacity"),
    Column("Cached Percentage", ".status.cacheStates.cachedPercentage"),
    PHASE,
    Column("HCFS URL", ".status.hcfs.endpoint", WIDE),
    Column("TOTAL FILES", ".status.fileNum", 11),
    Column("CACHE HIT RATIO", ".status.cacheStates.cacheHitRatio", WIDE),
    AGE,
)
_MASTERS = (
    Column("Ready Masters", ".status.masterNumberReady", WIDE, "integer"),
    Column("Desired Masters", ".status.desiredMasterNumberScheduled", WIDE, "integer"),
    Column("Master Phase", ".status.masterPhase"),
)
_WORKERS_AND_FUSES = (
    Column("Ready Workers", ".status.workerNumberReady", WIDE, "integer"),
    Column("Desired Workers", ".status.desiredWorkerNumberScheduled", WIDE, "integer"),
    Column("Worker Phase", ".status.workerPhase"),
    Column("Ready Fuses", ".status.fuseNumberReady", WIDE, "integer"),
    Column("Desired Fuses", ".status.desiredFuseNumberScheduled", WIDE, "integer"),
    Column("Fuse Phase", ".status.fusePhase"),
)
WITHOUT_MASTER = (*_WORKERS_AND_FUSES, AGE)
WITH_MASTER = (*_MASTERS, *_WORKERS_AND_FUSES, AGE)
WITH_GATEWAY = (*_MASTERS, *_WORKERS_AND_FUSES, Column("API Gateway", ".status.apiGateway.endpoint", WIDE), AGE)
CACHE_RUNTIME = (
    Column("Ready Workers", ".status.worker.readyReplicas", WIDE, "integer"),
    Column("Desired Workers", ".status.worker.desiredReplicas", WIDE, "integer"),
    Column("Worker Phase", ".status.worker.phase"),
    Column("Ready Fuses", ".status.client.readyReplicas", WIDE, "integer"),
    Column("Desired Fuses", ".status.client.desiredReplicas", WIDE, "integer"),
    Column("Fuse Phase", ".status.client.phase"),
    AGE,
    Column("Status", ".status.phase"),
)
DATA_LOAD = DATA_PROCESS = (_DATASET_NAME, PHASE, AGE, _DURATION)
DATA_MIGRATE = (PHASE, AGE, _DURATION)
DATA_BACKUP = (
    Column("Dataset", ".spec.dataset"),
    PHASE,
    Column("Path", ".status.infos.BackupLocationPath"),
    Column("NodeName", ".status.infos.BackupLocationNodeName"),
    _DURATION,
    AGE,
)
