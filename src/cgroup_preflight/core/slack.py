"""How far a counter of the kernel may be above a limit that was in force all the time."""

#: mm/memcontrol.c, MEMCG_CHARGE_BATCH: what one CPU charges at once.
_BATCH_PAGES = 64
#: mm/memcontrol.c, try_charge_memcg: an allocation that must not fail (page tables on exit, network buffers) is charged
#: above the limit.
_FORCED_BYTES = 1 << 20
#: A huge page is as large as one page full of entries of a page table (PMD_SIZE: 2 MiB where a page has 4 KiB).
_ENTRY_BYTES = 8


def memory_slack(cpus: int, page_size: int) -> int:
    """Bytes that memory.peak may be above memory.max: a batch on each CPU, and what is charged by force."""
    return _FORCED_BYTES + cpus * _BATCH_PAGES * page_size


def refused_slack(cpus: int, page_size: int) -> int:
    """Bytes that memory.peak of a cgroup may have in addition, where the limit is that of a level above it.

    The kernel charges a page level by level, from below: one that a level above refuses is in the peak below it already
    (mm/page_counter.c, `page_counter_try_charge`). Each CPU can try a huge page at the same moment.
    """
    return cpus * page_size * (page_size // _ENTRY_BYTES)
