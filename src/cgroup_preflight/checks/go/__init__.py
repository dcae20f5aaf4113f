"""The checks of Go programs, in order: code to module. Text only, like `checks.CHECKS`."""

CHECKS: dict[str, str] = {
    "CGP401": "binary_format",
    "CGP402": "quota_invisible",
    "CGP403": "gomaxprocs_above_quota",
    "CGP404": "awareness_off",
    "CGP405": "gomemlimit_missing",
    "CGP406": "gomemlimit_malformed",
    "CGP407": "gomemlimit_above_limit",
    "CGP408": "gomemlimit_near_heap",
    "CGP409": "memory_high_live_lock",
    "CGP410": "tuning_library",
    "CGP411": "cgo_memory",
    "CGP412": "instrumented_build",
    "CGP413": "address_space_limit",
    "CGP414": "tasks_too_few",
    "CGP415": "vcs_dirty",
    "CGP416": "vcs_missing",
    "CGP417": "unreadable_program",
    "CGP420": "gomaxprocs_ignored",
    "CGP421": "memory_limit_shared",
}
