"""From what users write to what it comes to: pure functions of objects, without a cluster and without I/O.

`resolution` has the order of things, `findings` what is said about them. Options are tables: `store_options` for each kind of
store, `alluxio`, `jindo`, ... for each kind of runtime. Values of credentials are never looked at: only where they stand.
"""
