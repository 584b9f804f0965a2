"""All kinds of the group, with the names and abilities that a cluster knows them by."""

from __future__ import annotations

from dataclasses import dataclass

from csi.operator.model import printer_columns
from csi.operator.model.alluxio_runtime import AlluxioRuntime
from csi.operator.model.cache_runtime import CacheRuntime
from csi.operator.model.cache_runtime_class import CacheRuntimeClass
from csi.operator.model.data_backup import DataBackup
from csi.operator.model.data_load import DataLoad
from csi.operator.model.data_migrate import DataMigrate
from csi.operator.model.data_process import DataProcess
from csi.operator.model.dataset import Dataset
from csi.operator.model.efc_runtime import EFCRuntime
from csi.operator.model.goosefs_runtime import GooseFSRuntime
from csi.operator.model.jindo_runtime import JindoRuntime
from csi.operator.model.juicefs_runtime import JuiceFSRuntime
from csi.operator.model.object import Object
from csi.operator.model.printer_columns import Column
from csi.operator.model.thin_runtime import ThinRuntime
from csi.operator.model.thin_runtime_profile import ThinRuntimeProfile


@dataclass(frozen=True, slots=True)
class Scale:
    """Where `kubectl scale` and autoscalers find numbers."""

    spec_replicas: str = ".spec.replicas"
    status_replicas: str = ".status.currentWorkerNumberScheduled"
    selector: str = ".status.selector"


@dataclass(frozen=True, slots=True)
class Kind:
    """`former_finalizer`: what Fluid's controllers put on their objects; with nobody to take it off, an object never goes.

    `instead`: of a kind that is not carried out, what users do in its place.
    `strict_name`: the name becomes part of other names, and has to be a DNS-1035 label.
    """

    model: type[Object]
    plural: str
    columns: tuple[Column, ...] = ()
    short_name: str = ""
    scale: Scale | None = None
    former_finalizer: str = ""
    of_cluster: bool = False
    in_category: bool = True
    has_status: bool = True
    strict_name: bool = False
    instead: str = ""

    @property
    def name(self) -> str:
        return self.model.__name__

    @property
    def has_spec(self) -> bool:
        return "spec" in self.model.model_fields


def _runtime(
    model: type[Object],
    short_name: str,
    columns: tuple[Column, ...],
    former_finalizer: str,
    *,
    scale: Scale | None = None,
    in_category: bool = True,
) -> Kind:
    plural = f"{model.__name__.lower()}s"
    scaled = scale or Scale()
    return Kind(model, plural, columns, short_name, scaled, former_finalizer, in_category=in_category, strict_name=True)


def _operation(
    model: type[Object],
    plural: str,
    short_name: str,
    columns: tuple[Column, ...],
    *,
    in_category: bool = True,
    instead: str = "",
) -> Kind:
    former_finalizer = f"fluid-{model.__name__.lower()}-controller-finalizer"
    return Kind(model, plural, columns, short_name, None, former_finalizer, in_category=in_category, instead=instead)


_ALL = (
    Kind(
        Dataset,
        "datasets",
        printer_columns.DATASET,
        "dataset",
        former_finalizer="fluid-dataset-controller-finalizer",
        strict_name=True,
    ),
    _runtime(AlluxioRuntime, "alluxio", printer_columns.WITH_GATEWAY, "alluxio-runtime-controller-finalizer"),
    _runtime(JindoRuntime, "jindo", printer_columns.WITH_MASTER, "jindo-runtime-controller-finalizer"),
    _runtime(EFCRuntime, "efc", printer_columns.WITH_MASTER, "efc-runtime-controller-finalizer"),
    _runtime(JuiceFSRuntime, "juicefs", printer_columns.WITHOUT_MASTER, "juicefs-runtime-controller-finalizer"),
    _runtime(GooseFSRuntime, "goose", printer_columns.WITH_GATEWAY, "goosefs-runtime-controller-finalizer"),
    _runtime(ThinRuntime, "", printer_columns.WITHOUT_MASTER, "thin-runtime-controller-finalizer", in_category=False),
    Kind(ThinRuntimeProfile, "thinruntimeprofiles", of_cluster=True, in_category=False),
    _runtime(
        CacheRuntime,
        "",
        printer_columns.CACHE_RUNTIME,
        "cache-runtime-controller-finalizer",
        scale=Scale(".spec.worker.replicas", ".status.worker.currentReplicas"),
    ),
    Kind(CacheRuntimeClass, "cacheruntimeclasses", of_cluster=True, has_status=False),
    _operation(DataLoad, "dataloads", "load", printer_columns.DATA_LOAD),
    _operation(
        DataMigrate,
        "datamigrates",
        "migrate",
        printer_columns.DATA_MIGRATE,
        instead="copy the files with a Job of your own that mounts the Dataset's claim",
    ),
    _operation(
        DataBackup,
        "databackups",
        "backup",
        printer_columns.DATA_BACKUP,
        instead="nothing is lost without it: names and sizes are listed again from the store",
    ),
    _operation(
        DataProcess,
        "dataprocesses",
        "",
        printer_columns.DATA_PROCESS,
        in_category=False,
        instead="run a Job of your own that mounts the Dataset's claim",
    ),
)
KINDS = {kind.name: kind for kind in _ALL}
