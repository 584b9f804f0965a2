"""The index of one dataset: which names exist, which inodes they are, where their blocks lie.

One LMDB environment, one writer process (fetch), any number of readers in other processes. The door to lmdb: its types pass
only as opaque transactions. Every table is described, field by field, in the module that packs its rows.

| table | key | value | module |
|---|---|---|---|
| meta | name | integers and ids | meta.py |
| inodes | inode | kind, times, source path, version | inodes.py |
| names | parent inode, name | inode | names.py |
| dirseq | parent inode, seq | name, inode: readdir order | names.py |
| dirs | inode | listing state | directories.py |
| extents | inode, block | where the block lies, its checksums | extents.py |
| containers | container | kind, fill | containers.py |
| order | tier, order | inode, block: eviction queue | order.py |
| orphans | inode | inodes no name points to any more | inodes.py |
"""
