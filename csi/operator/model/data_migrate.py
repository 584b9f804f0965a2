"""DataMigrate: copy files from one store to another."""

from __future__ import annotations

from csi.operator.model.encrypt_option import EncryptOption
from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.operation import OperationStatus, Placed, Repeated
from csi.operator.model.scalars import Int32, StringMap
from csi.operator.model.structure import Structure, field


class MigratedDataset(Structure):
    name: str = field(Mark.HONOURED, "Name of the Dataset.")
    namespace: str = field(Mark.HONOURED | Mark.REFUSABLE, "Namespace of the Dataset.")
    path: str = field(Mark.HONOURED, "Directory of the Dataset's tree.", "", default_text="all of it")


class ExternalStorage(Structure):
    uri: str = field(Mark.HONOURED | Mark.REFUSABLE, "Store and directory, such as s3://bucket/prefix or pvc://claim/directory.")
    encrypt_options: list[EncryptOption] = field(Mark.HONOURED, "Settings of the store that are secret, such as its keys.", [])


class MigrationEnd(Structure):
    """Where files come from, or go to."""

    dataset: MigratedDataset | None = field(Mark.HONOURED, "A Dataset; at least one end is one.", None)
    external_storage: ExternalStorage | None = field(Mark.HONOURED, "A store.", None)


class DataMigrateSpec(Repeated, Placed):
    source: MigrationEnd = field(Mark.HONOURED, "Where files come from.", alias="from")
    destination: MigrationEnd = field(Mark.HONOURED, "Where files go to.", alias="to")
    block: bool = field(Mark.HONOURED, "Refuse writes through mounts of the Dataset meanwhile (EBUSY).", False)
    runtime_type: str = field(
        Mark.SILENT | Mark.REFUSABLE, "Kind of the runtime of one of the Datasets; another one is refused.", ""
    )
    image: str = field(Mark.IGNORED, "Image of the pods that copy.", "")
    image_tag: str = field(Mark.IGNORED, "Tag of that image.", "")
    image_pull_policy: str = field(Mark.IGNORED, "When nodes pull that image.", "")
    options: StringMap = field(
        Mark.MAPPED | Mark.REFUSABLE, "Settings of the copy. Those that choose files are honoured, unknown ones are refused.", {}
    )
    parallelism: Int32 = field(Mark.HONOURED, "Number of pods that copy.", 1, written=1, ge=1)
    parallel_options: StringMap = field(Mark.IGNORED, "How pods that copy reach one another by SSH; ours need none.", {})


class DataMigrate(Object):
    """Copies files between a Dataset and another store or Dataset."""

    spec: DataMigrateSpec = field(Mark.HONOURED, "What to copy where, and when.")
    status: OperationStatus = field(Mark.HONOURED, "What became of it.", OperationStatus())
