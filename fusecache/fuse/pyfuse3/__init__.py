"""The fallback engine: pyfuse3 (libfuse) on Trio. An optional extra; the one door to pyfuse3."""
