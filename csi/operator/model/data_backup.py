"""DataBackup: save what is known about the files of a Dataset, not the files."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.operation import Following, OperationStatus
from csi.operator.model.structure import field
from csi.operator.model.user import User


class DataBackupSpec(Following):
    dataset: str = field(Mark.HONOURED, "Name of a Dataset in the same namespace.", "")
    backup_path: str = field(
        Mark.HONOURED | Mark.REFUSABLE, "Directory for the backup: pvc://claim/directory/ or local:///directory/.", ""
    )
    run_as: User | None = field(Mark.HONOURED, "Who writes the files.", None)


class DataBackup(Object):
    """Saves the names and sizes of a Dataset's files, from which it can be restored without a listing."""

    spec: DataBackupSpec = field(Mark.HONOURED, "What to save where.", DataBackupSpec())
    status: OperationStatus = field(Mark.HONOURED, "What became of it.", OperationStatus())
