"""docs/options.md: what options of other engines become here, from the tables that the code goes by."""

from __future__ import annotations

from csi.operator.resolve import alluxio, efc, jindo, juicefs, load, store_options
from csi.operator.resolve.engine_options import FUSE_ARGS, OWN, OWN_WORDS
from csi.operator.resolve.option_row import Effect, Row, Table

TABLES: tuple[Table, ...] = (
    *store_options.TABLES.values(),
    alluxio.PROPERTIES,
    jindo.PROPERTIES,
    jindo.MOUNT_OPTIONS,
    juicefs.OPTIONS,
    efc.PROPERTIES,
    FUSE_ARGS,
    OWN,
    OWN_WORDS,
    load.OPTIONS,
)

_HEAD = """# Options in the words of other engines

Datasets and runtimes that were written for other engines bring their options along: of stores in `mounts[].options`,
`sharedOptions`, `encryptOptions` and `sharedEncryptOptions` of a Dataset, of engines in `properties`, `options` and `fuse.args`
of a runtime. Below is what each of them becomes. This file is generated from `csi/operator/resolve` by `make crds`.

- *option*: an option of the source, see [sources.md](sources.md).
- *credential*: one that a source reads from a file. Give it with `encryptOptions`. In clear text it works, and one event
  `PlaintextCredential` says so; it is copied into a Secret then, never into a ConfigMap, a status or a log.
- *setting*: of the whole mount, see [operations.md](operations.md).
- *ignored*: of no effect, and one event `OptionIgnored` of the object names it. The same holds for keys that are not listed.
- *silent*: of no effect, as it says what holds in any case, or concerns what does not exist here.
- *refused*: the Dataset is not bound, and an event says why.

Where several spellings of an option stand in one place, the first one of the table counts. Of several places the later one
counts: properties of the runtime (its own, then those of `master`, `worker` and `fuse`), `sharedOptions`, options of the mount. A
key that is both in `options` and in `encryptOptions` of a mount is refused. Of several times after which names are asked for
anew, the shortest holds. A number without a unit counts milliseconds in keys of Alluxio, GooseFS and Hadoop, seconds elsewhere.
`fs.oss.bucket.BUCKET.KEY` and `fs.s3a.bucket.BUCKET.KEY` are KEY for one bucket. A `*` stands for anything.

A mount point `juicefs://` is served from the plain objects of the bucket that its options name. What JuiceFS itself has written
there is blocks, not files; such a volume (an option `metaurl`) is refused.
"""


def options_reference() -> str:
    """Return the text of the file."""
    return "\n".join([_HEAD, *(_section(table) for table in TABLES if table.rows)])


def _section(table: Table) -> str:
    rows = [f"| {_keys(row)} | {_effect(row)} | {row.note} |" for row in table.rows]
    title = table.title[0].upper() + table.title[1:]
    return "\n".join([f"## {title}", "", "| written | becomes | |", "|---|---|---|", *rows, ""])


def _keys(row: Row) -> str:
    return ", ".join(f"`{key}`" for key in row.keys)


def _effect(row: Row) -> str:
    match row.effect:
        case Effect.SOURCE:
            secret = " or credential" if row.may_be_secret else ""
            return f"option{secret} `{row.target}`"
        case Effect.SECRET:
            return f"credential `{row.target}`"
        case Effect.SETTING:
            return f"setting `{row.target}`"
        case Effect.DECISION:
            return "see right"
        case _:
            return str(row.effect.value)
