"""Reasons of events and conditions that are known before anything is created. Scripts look for them: they do not change."""

from __future__ import annotations

ERROR_DATASET = "ErrorCreateDataset"
ERROR_RUNTIME = "ErrorProcessRuntime"
ERROR_FIELDS = "ErrorValidateSpecFields"
FIELD_IGNORED = "FieldIgnored"
OPTION_IGNORED = "OptionIgnored"
PLAINTEXT_CREDENTIAL = "PlaintextCredential"
MEMORY_TIER_ADDED = "MemoryTierAdded"  # Normal: a runtime without tiers caches in memory
SMALL_QUOTA = "SmallQuota"
CACHE_PATH_NOT_ALLOWED = "CachePathNotAllowed"
RUN_AS_GROUP = "RunAsGroupOnly"
HOST_NETWORK = "HostNetwork"  # what comes of sharing the node's ports

OPERATION_NOT_VALID = "DataOperationNotValid"
OTHER_NAMESPACE = "TargetDatasetNamespaceNotSame"
SCHEDULE_MISSING = "ScheduleNotSpecified"
SCHEDULE_INVALID = "ScheduleInvalid"
