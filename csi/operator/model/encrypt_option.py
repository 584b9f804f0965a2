"""Settings of a store that are taken from Secrets."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.structure import Structure, field


class SecretKey(Structure):
    name: str = field(Mark.HONOURED | Mark.REFUSABLE, "Name of a Secret in the same namespace.")
    key: str = field(Mark.HONOURED, "Key in the Secret.", "", default_text="the option's name")


class SecretSource(Structure):
    secret_key_ref: SecretKey = field(Mark.HONOURED, "The key of a Secret that holds the value.")


class EncryptOption(Structure):
    name: str = field(Mark.HONOURED, "Name of the setting, as in options.")
    value_from: SecretSource = field(
        Mark.HONOURED, "Where the value is. A changed Secret is noticed while pods run; a missing one heals when it appears."
    )

    @property
    def key(self) -> str:
        """The key in the Secret."""
        return self.value_from.secret_key_ref.key or self.name
