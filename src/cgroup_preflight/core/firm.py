"""Which fails neither `warn_on` nor a baseline changes, code by code: one table, and a test that every code is in it. Pure.

A fail is firm where it says that a limit cannot be in force, is not in force, is not enforced, or is not proved; also
where what would prove it did not happen (a service did not run to its end). A code that is not in the table is firm.
"""

#: The host, the config, the plan and the artifacts: without these, limits cannot be in force where the services will run.
_INPUTS = """
CGP101 CGP102 CGP103 CGP104 CGP105 CGP106 CGP108 CGP109 CGP110 CGP111 CGP112 CGP113 CGP114 CGP116 CGP120 CGP125 CGP126
CGP127 CGP128 CGP129
CGP201 CGP202 CGP203 CGP204 CGP205 CGP206 CGP207 CGP208 CGP209 CGP210 CGP211 CGP214 CGP215 CGP216 CGP217 CGP218 CGP219
CGP301 CGP302 CGP303 CGP304 CGP305 CGP306 CGP308 CGP309
"""
#: The proof: the program cannot run; no service was run; a limit is not in force, or its process is elsewhere; the service
#: did not run to its end, was killed for memory, or was not started; a limit is not enforced; the guest was lost; systemd or
#: the process does not have a setting; weights do not divide; and the same of installed packages.
_PROOF = """
CGP401
CGP500 CGP501 CGP502 CGP503 CGP504 CGP507 CGP511 CGP512 CGP513 CGP516 CGP517 CGP521 CGP522 CGP523
"""
FIRM = frozenset((_INPUTS + _PROOF).split())
#: What a fail says that leaves the limits in force and proved.
LOWERED = {
    "CGP406": "GOMEMLIMIT, a limit of the Go runtime, is misspelled",
    "CGP407": "GOMEMLIMIT, a limit of the Go runtime, is above that of the kernel, which counts",
    "CGP505": "a service under its limits did not become ready in time, or did not answer at the end",
    "CGP506": "a service under its limits did not end after SIGTERM",
    "CGP510": "the run left something on the machine",
    "CGP524": "a removed package left something on the machine",
}
#: Those that never fail by themselves, so that nothing of theirs can be lowered.
NEVER = frozenset(
    [
        "CGP107",
        "CGP115",
        "CGP117",
        "CGP118",
        "CGP119",
        "CGP121",
        "CGP122",
        "CGP123",
        "CGP124",
        "CGP212",
        "CGP213",
        "CGP220",
        "CGP221",
        "CGP222",
        "CGP307",
        "CGP400",
        "CGP402",
        "CGP403",
        "CGP404",
        "CGP405",
        "CGP408",
        "CGP409",
        "CGP410",
        "CGP411",
        "CGP412",
        "CGP413",
        "CGP414",
        "CGP415",
        "CGP416",
        "CGP417",
        "CGP418",
        "CGP419",
        "CGP420",
        "CGP421",
        "CGP508",
        "CGP509",
        "CGP514",
        "CGP515",
        "CGP520",
    ]
)


def is_firm(code: str) -> bool:
    """Whether only an ignore with a reason can keep a fail of this code from deciding."""
    return code not in LOWERED and code not in NEVER
