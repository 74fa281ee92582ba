"""By what a file that did not change is known again without being read."""

import os
import struct
from typing import NamedTuple

SETTLED_NS = 2_000_000_000
"""A file that changed this shortly before it was looked at may change again unseen: git's rule."""

_PACKED = struct.Struct(">QqqQ")


class State(NamedTuple):
    """What changes when a file does, and when it was looked at."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    looked_ns: int

    @classmethod
    def of(cls, stat: os.stat_result, looked_ns: int) -> "State":
        """The state that a look at the file gave."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, looked_ns)

    def settled(self) -> bool:
        """Whether a change after the look would show."""
        return max(self.mtime_ns, self.ctime_ns) < self.looked_ns - SETTLED_NS

    def packed(self) -> bytes:
        """The state as bytes, for comparison."""
        return _PACKED.pack(*self[:4])
