"""How far a counter of the kernel may be above a limit that was in force all the time."""

#: mm/memcontrol.c, MEMCG_CHARGE_BATCH: what one CPU charges at once.
_BATCH_PAGES = 64
#: mm/memcontrol.c, try_charge_memcg: an allocation that must not fail (page tables on exit, network buffers) is charged
#: above the limit.
_FORCED_BYTES = 1 << 20


def memory_slack(cpus: int, page_size: int) -> int:
    """Bytes that memory.peak may be above memory.max: a batch on each CPU, and what is charged by force."""
    return _FORCED_BYTES + cpus * _BATCH_PAGES * page_size
