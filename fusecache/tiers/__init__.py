"""Containers, quotas and eviction: the bytes of the cache. Readers use container_files, checksums and marks; fetch uses all."""
